"""A plot of lines as SVG (pure)."""

from collections.abc import Mapping, Sequence

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 70, 200, 30, 40
COLORS = ("#c2571a", "#3c8a3c", "#1a6fc2", "#8a8a8a")

Lines = Mapping[str, Sequence[tuple[float, float]]]


def draw_plot(title: str, lines: Lines) -> str:
    """Return an SVG with a line for each name. The places on the horizontal axis are equal steps."""
    steps = sorted({x for points in lines.values() for x, _ in points})
    top = max(y for points in lines.values() for _, y in points)

    def place(x: float, y: float) -> tuple[float, float]:
        share = steps.index(x) / max(len(steps) - 1, 1)
        return LEFT + share * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM)

    size = f'viewBox="0 0 {WIDTH} {HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        f'<title>{title}</title><rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="18" font-size="14">{title}</text>',
    ]
    for share in (0, 0.5, 1):
        _, y = place(steps[0], top * share)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{top * share:,.0f}</text>')
    parts += [f'<text x="{place(x, 0)[0]:.1f}" y="{HEIGHT - 18}" text-anchor="middle">{x:,.0f}</text>' for x in steps]
    for (name, points), color in zip(lines.items(), COLORS, strict=False):
        places = [place(x, y) for x, y in points]
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{drawn}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts.append(f'<text x="{places[-1][0] + 8:.1f}" y="{places[-1][1] + 4:.1f}" fill="{color}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])
