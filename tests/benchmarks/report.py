"""The figures of a benchmark as JSON, and a plot of them as SVG, in the folder that BENCH_OUTPUT names."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 70, 200, 30, 40
COLORS = ("#8a8a8a", "#c2571a", "#1a6fc2", "#3c8a3c")

Lines = Mapping[str, Sequence[tuple[float, float]]]


def write_rows(name: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Write `<name>.json` if BENCH_OUTPUT names a folder."""
    if not (folder := os.environ.get("BENCH_OUTPUT")):
        return
    about = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": platform.machine(), "cores": os.cpu_count()}
    about |= {"python": platform.python_version()}
    Path(folder, f"{name}.json").write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")


def write_report(name: str, rows: Sequence[Mapping[str, object]], title: str, lines: Lines) -> None:
    """Write `<name>.json` and `<name>.svg` if BENCH_OUTPUT names a folder."""
    if not (folder := os.environ.get("BENCH_OUTPUT")):
        return
    write_rows(name, rows)
    Path(folder, f"{name}.svg").write_text(draw_plot(title, lines))
    print(f"  written: {folder}/{name}.json and {folder}/{name}.svg")


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
