"""LoginService and look-ups, each beside a bare route that does one SELECT by the same keys.

Both take turns in every round. Each request of /sync has one of thousands of session tokens, verified with a
configured key; the bare route verifies no token.
"""

import asyncio
import os
import statistics
import time
from typing import Any

import asyncpg
import msgspec

from tests.benchmarks.generator import Order, Report, drive
from tests.benchmarks.report import write_rows
from tests.benchmarks.targets import run_login_targets
from tests.clerk_stub import API_TOKEN, make_session_token

USERS = 10_000
TOKENS = 4_000
RESOLVED = 1_000
ROUNDS = 5
SECONDS = float(os.environ.get("BENCH_SECONDS", "2"))

P50_TARGET_MS = 1.5
MIN_RATIO = 0.5
RESOLVE_TARGET_MS = 15.0
LOOK_UP_TARGET_MS = 5.0

SYNC, LOOK_UP, RESOLVE = "POST /sync, a fresh row", "GET /users/{id}", "POST /users/resolve, 1,000 IDs"

# Eight clients leave two cores some idle time, so the measured wait is the service's own.
CASES = ((SYNC, 1), (SYNC, 64), (LOOK_UP, 8), (RESOLVE, 1))

# The port of a target, and its requests.
Requests = tuple[int, list[bytes]]


def measure() -> None:
    """Print the figures, and whether the performance targets are met."""
    with run_login_targets() as (postgres, bare, service):
        asyncio.run(_insert_users(postgres.dsn()))
        users = [f"user_{number:027}" for number in range(1, TOKENS + 1)]
        later = int(time.time()) + 3600  # a benchmark takes longer than a token's lifetime
        selects = bare, [_make_request("GET", f"/row/{user}") for user in users]
        logins = [_make_request("POST", "/sync", make_session_token(user, exp=later)) for user in users]
        body = msgspec.json.encode({"clerk_ids": users[:RESOLVED]})
        pairs: dict[str, tuple[Requests, Requests]] = {
            SYNC: (selects, (service, logins)),
            LOOK_UP: (selects, (service, [_make_request("GET", f"/users/{user}", API_TOKEN) for user in users])),
            RESOLVE: (
                (bare, [_make_request("POST", "/rows", None, body)]),
                (service, [_make_request("POST", "/users/resolve", API_TOKEN, body)]),
            ),
        }
        print(f"  {'clients':>7}  {'':30} {'1/s':>7} {'p50':>8} {'p99':>8} {'of (a)':>6}")
        rows = [_run_case(name, clients, *pairs[name]) for name, clients in CASES]
    _print_verdicts({(row["lookup"], row["clients"]): row for row in rows})
    write_rows("login", rows)


def _run_case(lookup: str, clients: int, bare: Requests, service: Requests) -> dict[str, Any]:
    """Print and return the figures of both targets."""
    reports: list[list[Report]] = [[], []]
    for number in range(ROUNDS + 1):
        for mine, (port, sent) in zip(reports, (bare, service), strict=True):
            report = drive(Order([port], clients, SECONDS, True, sent))
            if number:  # the first round is a warm-up
                mine.append(report)
    row: dict[str, Any] = {"lookup": lookup, "clients": clients}
    row["of_bare"] = statistics.median(
        _compute_rate(ours) / _compute_rate(theirs) for theirs, ours in zip(*reports, strict=True)
    )
    for prefix, name, mine in zip(("bare_", ""), ("(a) one SELECT by key", lookup), reports, strict=True):
        cuts = statistics.quantiles((taken for report in mine for taken in report.milliseconds), n=100)
        rate = statistics.median(map(_compute_rate, mine))
        row |= {f"{prefix}rate": rate, f"{prefix}p50": cuts[49], f"{prefix}p99": cuts[98]}
        print(f"  {clients:7}  {name:30} {rate:7,.0f} {cuts[49]:5.2f} ms {cuts[98]:5.2f} ms", end="")
        print("" if prefix else f" {row['of_bare']:6.2f}")
    return row


def _print_verdicts(rows: dict[tuple[str, int], dict[str, Any]]) -> None:
    p50, resolve = rows[SYNC, 1]["p50"], rows[RESOLVE, 1]["p50"]
    ratio = rows[SYNC, 64]["of_bare"]
    added = rows[LOOK_UP, 8]["p99"] - rows[LOOK_UP, 8]["bare_p99"]
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


def _compute_rate(report: Report) -> float:
    return len(report.milliseconds) / report.seconds


def _print_verdict(label: str, *, met: bool) -> None:
    print(f"  {label}: {'met' if met else 'MISSED'}")
