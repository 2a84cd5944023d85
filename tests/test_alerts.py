"""deploy/prometheus and deploy/grafana: alerts fire on outages, and every query has a result on real output."""

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
import yaml

import sync_service
from sync_service.web.metrics import database_figures
from tests.clerk_stub import ClerkStub
from tests.conftest import Serve
from tests.processes import HANG_SECONDS, reserve_port
from tests.scrape import Series, read_documented_families, scrape
from tests.sync_requests import build_settings, post_sync
from tests.tools import require_tool
from tests.world import OLDER_SECRET, make_event, wait_until

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
# The parser in C, because every worker that collects the tests reads these files.
CONTENT = {file: yaml.load(file.read_text(), Loader=yaml.CSafeLoader) for file in sorted(PROMETHEUS.glob("*.yaml"))}
RULE_FILES = [file for file, content in CONTENT.items() if "groups" in content]
TEST_FILES = [file for file, content in CONTENT.items() if "rule_files" in content]
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for file in RULE_FILES for group in CONTENT[file]["groups"] for rule in group["rules"]
}
PANELS = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())["panels"]
DASHBOARD_QUERIES = [target["expr"] for panel in PANELS for target in panel.get("targets", [])]
# An alert has a result only while it fires. As a number, a comparison has one always.
ALERT_QUERIES = [re.sub(r" ([<>]) ", r" \1 bool ", rule["expr"]) for rule in ALERTS.values()]


def test_every_query_names_documented_metrics_only() -> None:
    documented = set(read_documented_families()) | {"process_cpu_seconds", "process_resident_memory_bytes"}
    named = set()
    for query in (*DASHBOARD_QUERIES, *ALERT_QUERIES):
        for name in re.findall(r"\b(?:sync_service|process)_\w+", query):
            named.add(re.sub(r"_(total|bucket|sum|count)$", "", name))
    assert named <= documented
    # The dashboard shows each of them.
    shown = " ".join(DASHBOARD_QUERIES)
    assert [name for name in documented if name not in shown] == []


def test_every_alert_has_a_test_and_a_section_of_the_documentation() -> None:
    tests = [case for file in TEST_FILES for test in CONTENT[file]["tests"] for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in tests if case.get("exp_alerts")} == ALERTS.keys()
    page = (Path(sync_service.__file__).parent / "docs" / "operations.md").read_text()
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook_url"] == f"sync_service/docs/operations.md#{name.lower()}"
        assert f"\n### {name}\n" in page


@pytest.mark.parametrize("file", TEST_FILES, ids=lambda file: file.stem)
def test_the_alerts_pass_their_unit_tests(file: Path) -> None:
    done = run_promtool("test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


def run_promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [require_tool("promtool"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS, check=False)


# --- staged outages -----------------------------------------------------------------------------------------------


def find_firing_alerts(before: Series, after: Series, folder: Path) -> set[str]:
    """Return the alerts that fire 20 minutes after the output of a service has changed from `before` to `after`.

    promtool reports the alerts that are not as expected, so each alert is expected to be silent.
    """
    series = [
        {"series": add_job(name), "values": f"{before[name]!r}x9 {after[name]!r}x30"}
        for name in after
        if name.startswith("sync_service_")
    ]
    cases = [{"eval_time": "20m", "alertname": name} for name in ALERTS]
    test = {"interval": "1m", "input_series": series, "alert_rule_test": cases}
    file = folder / "test.yaml"
    file.write_text(json.dumps({"rule_files": [str(file) for file in RULE_FILES], "tests": [test]}))
    done = run_promtool("test", "rules", file)
    firing = set(re.findall(r"alertname: (\w+), time: 20m", done.stdout + done.stderr))
    assert (done.returncode == 0) == (not firing), done.stderr
    return firing


def add_job(series: str) -> str:
    name, _, labels = series.rstrip("}").partition("{")
    return f'{name}{{job="sync-service"{"," if labels else ""}{labels}}}'


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_figures, "MAX_AGE", 0)


async def test_a_table_that_refuses_users_raises_the_alert(
    serve: Serve, db: asyncpg.Connection, tmp_path: Path, no_cache: None
) -> None:
    async with serve(sync_max_attempts=1) as world:
        before = await scrape(world)
        await db.execute("alter table users add constraint refuses check (first_name = 'Grace') not valid")
        for n in range(2):
            assert (await world.deliver(make_event("user.created", f"user_{n}"))).status_code == 202
        after = await scrape(world)
    assert find_firing_alerts(before, after, tmp_path) == {"SyncServiceDeadEvents"}


async def test_an_event_that_fails_for_long_raises_the_alert(
    serve: Serve, db: asyncpg.Connection, tmp_path: Path, no_cache: None
) -> None:
    """A deferred deletion is due at its time, so it does not count."""
    async with serve() as world:
        before = await scrape(world)
        assert (await world.deliver(make_event("user.created", "user_1", banned="yes"))).status_code == 202
        await db.execute("update clerk_sync.events set received_at = now() - interval '16 minutes'")
        after = await scrape(world)
        await db.execute("update clerk_sync.events set reason = 'delete_grace'")
        deferred = await scrape(world)
    assert find_firing_alerts(before, after, tmp_path) == {"SyncServiceOldestWaiting"}
    assert find_firing_alerts(before, deferred, tmp_path) == set()


async def test_a_dead_delivery_raises_the_alert(
    serve: Serve, db: asyncpg.Connection, tmp_path: Path, no_cache: None
) -> None:
    async with serve() as world:
        before = await scrape(world)
        await db.execute(
            "insert into clerk_sync.changes (type, clerk_id, delivery) values ('user.created', 'u', 'dead')"
        )
        after = await scrape(world)
    assert find_firing_alerts(before, after, tmp_path) == {"SyncServiceDeadDeliveries"}


async def test_a_wrong_secret_raises_the_alert(serve: Serve, tmp_path: Path, no_cache: None) -> None:
    async with serve() as world:
        before = await scrape(world)
        for n in range(3):
            response = await world.deliver(make_event("user.created", f"user_{n}"), secret=OLDER_SECRET)
            assert response.status_code == 400
        after = await scrape(world)
    assert find_firing_alerts(before, after, tmp_path) == {"SyncServiceBadSignatures"}


async def test_logins_without_webhooks_raise_the_alert(
    serve: Serve, clerk: ClerkStub, tmp_path: Path, no_cache: None
) -> None:
    """A webhook route that is not mounted: users sign up, sign in, and no webhook arrives (N3)."""
    now = int(time.time() * 1000)
    clerk.add_user("user_1", now, created_at=now)
    async with serve(**build_settings(clerk)) as world:
        before = await scrape(world)
        assert (await post_sync(world)).json()["outcome"] == "created"
        after = await scrape(world)
        await world.deliver_ok(make_event("user.created", "user_1", now))
        with_webhook = await scrape(world)
    assert find_firing_alerts(before, after, tmp_path) == {"SyncServiceMissedWebhooks"}
    assert find_firing_alerts(before, with_webhook, tmp_path) == set()


async def test_a_schema_behind_raises_the_alert(
    serve: Serve, db: asyncpg.Connection, tmp_path: Path, no_cache: None
) -> None:
    async with serve() as world:
        before = await scrape(world)
        await db.execute("delete from clerk_sync.migrations where version > 3")
        after = await scrape(world)
    assert find_firing_alerts(before, after, tmp_path) == {"SyncServiceNotReady"}


# --- a real Prometheus --------------------------------------------------------------------------------------------


async def test_every_query_has_a_result_on_real_output(serve: Serve, clerk: ClerkStub, tmp_path: Path) -> None:
    """Prometheus scrapes the service, loads the rules, and evaluates each query of the dashboard and of the alerts."""
    clerk.add_user("user_1")
    keys = {"clerk_jwt_key": None, "clerk_jwks_url": f"{clerk.url}/.well-known/jwks.json"}
    async with serve(**build_settings(clerk, **keys)) as world:
        with run_prometheus(tmp_path, world.client.base_url.netloc.decode()) as url:
            async with httpx2.AsyncClient(base_url=f"{url}/api/v1", timeout=60) as client:
                missing = [*DASHBOARD_QUERIES, *ALERT_QUERIES]

                async def have_results() -> bool:
                    await world.deliver_ok(make_event("user.updated", "user_1", int(time.time() * 1000)))
                    await post_sync(world)
                    missing[:] = [query for query in missing if not await has_result(client, query)]
                    return not missing

                try:
                    await wait_until(have_results)
                except AssertionError:
                    pytest.fail("no result:\n" + "\n".join(missing))
                groups = (await client.get("/rules")).json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == ALERTS.keys()
    assert {rule["lastError"] for rule in rules if "lastError" in rule} == set()


async def has_result(client: httpx2.AsyncClient, query: str) -> bool:
    """Return whether the query has a series whose value is a number."""
    expression = query.replace("$__rate_interval", "1m").replace("$job", ".+")
    try:
        response = await client.get("/query", params={"query": expression})
    except httpx2.TransportError:  # it starts
        return False
    if response.status_code == 503:  # it reads its data
        return False
    assert response.status_code == 200, response.text
    return any(series["value"][1] != "NaN" for series in response.json()["data"]["result"])


@contextlib.contextmanager
def run_prometheus(folder: Path, target: str) -> Iterator[str]:
    """Run Prometheus with the rules of deploy/, and with a webhook in its history; yield its URL."""
    program = require_tool("prometheus")
    add_history(folder)
    config = {
        "global": {"scrape_interval": "200ms", "evaluation_interval": "200ms"},
        "rule_files": [str(file) for file in RULE_FILES],
        "scrape_configs": [{"job_name": "sync-service", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yaml").write_text(json.dumps(config))
    address = f"127.0.0.1:{reserve_port()}"
    options = {
        "config.file": folder / "prometheus.yaml",
        "storage.tsdb.path": folder / "data",
        "web.listen-address": address,
    }
    with (folder / "prometheus.log").open("wb") as log:
        popen = subprocess.Popen([program, *(f"--{name}={value}" for name, value in options.items())], stderr=log)
    try:
        yield f"http://{address}"
    finally:
        popen.kill()
        popen.wait()


def add_history(folder: Path) -> None:
    """Write the time of a webhook of four days ago, with which the alert on silence compares."""
    then = int(time.time()) - 4 * 86_400
    name = "sync_service_last_accepted_webhook_timestamp_seconds"
    samples = [f'{name}{{job="sync-service"}} {at - 60} {at}' for at in range(then, then + 3600, 240)]
    (folder / "history").write_text("\n".join([f"# TYPE {name} gauge", *samples, "# EOF\n"]))
    done = run_promtool("tsdb", "create-blocks-from", "openmetrics", folder / "history", folder / "data")
    assert done.returncode == 0, done.stderr
