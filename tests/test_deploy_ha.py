"""deploy/ha/: the files agree with each other and with the service. tests/faults runs HAProxy and Patroni with them."""

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from sync_service.dsn import parse_dsn
from sync_service.dsn_check import list_addresses
from sync_service.postgres.pool import MAX_CONNECTIONS
from sync_service.settings import Settings, iter_setting_names
from sync_service.web.app import STOP_TIMEOUT
from tests.test_deploy import DEPLOY, PINNED_IMAGE
from tests.tools import require_tool

HA = DEPLOY / "ha"


def read_yaml(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((HA / name).read_text())
    return content


def test_haproxy_accepts_its_configuration() -> None:
    command = [require_tool("haproxy"), "-c", "-f", str(HA / "haproxy.cfg")]
    done = subprocess.run(
        command, env={"WEB1": "127.0.0.1:1", "WEB2": "127.0.0.1:2"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


def test_haproxy_waits_longer_than_the_service() -> None:
    """`/changes` waits for 20 s and a replay takes 25 s. An idle connection to a client ends before the service's."""
    text = (HA / "haproxy.cfg").read_text()
    seconds = {name: int(value) for name, value in re.findall(r"^\s*timeout (\S+) (\d+)s$", text, re.MULTILINE)}
    assert seconds["server"] > 25
    assert seconds["http-keep-alive"] < Settings().sync_keep_alive.total_seconds()


def test_the_addresses_of_compose_agree() -> None:
    services = read_yaml("compose.yaml")["services"]
    dsn = parse_dsn(services["web1"]["environment"]["DATABASE_URL"])
    databases = [address.host for address in list_addresses(dsn.url)]
    assert [services[name]["environment"]["PATRONI_NAME"] for name in databases] == databases
    default_webs = re.findall(r'"\$\{WEB\d-(\w+):8000\}"', (HA / "haproxy.cfg").read_text())
    assert set(default_webs) <= services.keys()
    assert len(set(default_webs)) == 2
    for name in databases:
        environment = services[name]["environment"]
        assert environment["PATRONI_POSTGRESQL_CONNECT_ADDRESS"] == f"{name}:5432"
        etcds = [host.partition(":")[0] for host in environment["PATRONI_ETCD3_HOSTS"].split(",")]
        assert set(etcds) <= services.keys()
        assert len(etcds) % 2 == 1  # an even number of members tolerates no more failures


def test_compose_migrates_first_and_gives_a_stop_its_time() -> None:
    services = read_yaml("compose.yaml")["services"]
    for name in ("web1", "web2"):
        assert services[name]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
        assert int(services[name]["stop_grace_period"].rstrip("s")) > STOP_TIMEOUT
        assert set(services[name]["environment"]) - {"PGPASSWORD"} <= set(iter_setting_names())
        assert services[name]["read_only"]


def test_the_images_are_those_of_the_other_files() -> None:
    images = re.findall(r"^FROM (\S+:\S+)", (HA / "Dockerfile").read_text(), re.MULTILINE)
    assert all(re.fullmatch(PINNED_IMAGE, image) for image in images)
    others = (DEPLOY / "Dockerfile").read_text() + (DEPLOY / "compose.yaml").read_text()
    assert all(image in others for image in images)
    targets = set(re.findall(r" AS (\w+)$", (HA / "Dockerfile").read_text(), re.MULTILINE))
    built = [service["build"] for service in read_yaml("compose.yaml")["services"].values()]
    assert {build["target"] for build in built if "target" in build} == targets - {"debian"}


def test_patroni_promotes_only_a_standby_that_has_all_commits() -> None:
    """A standby is promoted only if it was synchronous. Patroni needs room for two retries within `ttl`."""
    dcs = read_yaml("patroni.yaml")["bootstrap"]["dcs"]
    assert dcs["synchronous_mode"] is True
    assert dcs["loop_wait"] + 2 * dcs["retry_timeout"] <= dcs["ttl"]
    assert dcs["postgresql"]["parameters"]["max_connections"] > 10 * MAX_CONNECTIONS
    rules = read_yaml("patroni.yaml")["postgresql"]["pg_hba"]
    assert all(rule.endswith("scram-sha-256") for rule in rules)


def test_each_file_is_in_a_page() -> None:
    page = (Path(__file__).parents[1] / "sync_service" / "docs" / "scaling.md").read_text()
    assert all(f"deploy/ha/{file.name}" in page for file in HA.iterdir())
