"""LoginService and look-ups: `/sync` with a fresh row beside a bare route that does one SELECT by key.

The targets take turns in every round. Each request of /sync has one of thousands of session tokens, verified with a
configured key; the bare route verifies no token.
"""

import asyncio
import statistics
import time

import asyncpg
import msgspec

from tests.benchmarks.generator import Order, Report, drive
from tests.benchmarks.targets import run_login_targets
from tests.clerk_stub import API_TOKEN, make_session_token

USERS = 10_000
TOKENS = 4_000
ROUNDS = 3
SECONDS = 4.0

P50_TARGET_MS = 1.5
MIN_RATIO = 0.5
RESOLVE_TARGET_MS = 15.0
LOOK_UP_TARGET_MS = 5.0

SELECT, SYNC, LOOK_UP, RESOLVE = "one SELECT by key", "/sync, a fresh row", "GET /users/{id}", "resolve of 1,000"


def measure() -> None:
    """Print the figures, and whether the performance targets are met."""
    with run_login_targets() as (postgres, bare, service):
        asyncio.run(_insert_users(postgres.dsn()))
        users = [f"user_{number:027}" for number in range(1, TOKENS + 1)]
        later = int(time.time()) + 3600  # a benchmark takes longer than a token's lifetime
        selects = bare, [_make_request("GET", f"/row/{user}") for user in users]
        logins = service, [_make_request("POST", "/sync", make_session_token(user, exp=later)) for user in users]
        look_ups = service, [_make_request("GET", f"/users/{user}", API_TOKEN) for user in users]
        body = msgspec.json.encode({"clerk_ids": users[:1000]})
        resolves = service, [_make_request("POST", "/users/resolve", API_TOKEN, body)]
        for port, sent in (selects, logins, look_ups, resolves):
            drive(Order([port], 8, 1.0, True, sent))  # warms up
        print(f"  {'clients':>7}  {'':20} {'1/s':>7} {'p50':>8} {'p99':>8}")
        alone = _run_rounds(1, {SELECT: selects, SYNC: logins})
        many = _run_rounds(64, {SELECT: selects, SYNC: logins})
        # Eight clients leave two cores some idle time, so the measured wait is the service's own.
        looked = _run_rounds(8, {SELECT: selects, LOOK_UP: look_ups})
        resolved = _run_rounds(1, {RESOLVE: resolves})
    ratio = statistics.median(
        _compute_rate(ours) / _compute_rate(theirs) for theirs, ours in zip(*many.values(), strict=True)
    )
    p50, resolve = _compute_percentile(alone[SYNC], 50), _compute_percentile(resolved[RESOLVE], 50)
    added = _compute_percentile(looked[LOOK_UP], 99) - _compute_percentile(looked[SELECT], 99)
    _print_verdict(f"/sync at 1 client: p50 {p50:.2f} ms, target {P50_TARGET_MS} ms", met=p50 < P50_TARGET_MS)
    _print_verdict(f"at 64 clients {ratio:.2f} of the SELECT, target {MIN_RATIO}", met=ratio >= MIN_RATIO)
    _print_verdict(f"resolve {resolve:.1f} ms, target {RESOLVE_TARGET_MS:g} ms", met=resolve < RESOLVE_TARGET_MS)
    _print_verdict(
        f"a look-up adds {added:.2f} ms at p99, target {LOOK_UP_TARGET_MS:g} ms", met=added < LOOK_UP_TARGET_MS
    )


async def _insert_users(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "insert into public.users (id, email, email_verified, first_name, last_name, image_url, banned, locked,"
        " public_metadata, created_at, updated_at)"
        " select 'user_' || lpad(n::text, 27, '0'), n || '@example.com', true, 'Ada', 'Example',"
        " 'https://img.example.com/' || n, false, false, '{}', now(), now() from generate_series(1, $1::integer) n",
        USERS,
    )
    await connection.execute(
        "insert into clerk_sync.identities (clerk_id, version, tiebreak, created_by, confirmed_at)"
        " select id, 1, '', 'webhook', now() from public.users"
    )
    await connection.execute("analyze")
    await connection.close()


def _make_request(method: str, path: str, token: str | None = None, body: bytes = b"") -> bytes:
    head = [f"{method} {path} HTTP/1.1", "host: bench"]
    head += [f"authorization: Bearer {token}"] if token else []
    head += [f"content-length: {len(body)}", "content-type: application/json"] if body else []
    return "\r\n".join([*head, "", ""]).encode() + body


def _run_rounds(clients: int, targets: dict[str, tuple[int, list[bytes]]]) -> dict[str, list[Report]]:
    """Print and return the reports of each target; they take turns, because the load of the machine varies."""
    found: dict[str, list[Report]] = {name: [] for name in targets}
    for _ in range(ROUNDS):
        for name, (port, sent) in targets.items():
            found[name].append(drive(Order([port], clients, SECONDS, True, sent)))
    for name, reports in found.items():
        rate = statistics.median(map(_compute_rate, reports))
        p50, p99 = _compute_percentile(reports, 50), _compute_percentile(reports, 99)
        print(f"  {clients:7}  {name:20} {rate:7,.0f} {p50:5.2f} ms {p99:5.2f} ms")
    return found


def _compute_rate(report: Report) -> float:
    return len(report.milliseconds) / report.seconds


def _compute_percentile(reports: list[Report], which: int) -> float:
    return statistics.quantiles((taken for report in reports for taken in report.milliseconds), n=100)[which - 1]


def _print_verdict(label: str, *, met: bool) -> None:
    print(f"  {label}: {'met' if met else 'MISSED'}")
