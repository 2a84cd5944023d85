"""The files of deploy/ for Kubernetes, Heroku, Render, Fly and Railway."""

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from sync_service.cli import create_parser
from sync_service.settings import REQUIRED_TO_SERVE, iter_setting_names, read_settings
from sync_service.web.app import STOP_TIMEOUT
from sync_service.web.health import READY_TIMEOUT

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
PORT = 8000
USER = 10001

# Platforms give these to a process themselves.
PLATFORM_SETTINGS = {"DATABASE_URL"}


def check_command(command: str | list[str], name: str) -> None:
    """Check that the command is `sync-service NAME`, in a form that the program accepts."""
    program, *arguments = shlex.split(command) if isinstance(command, str) else command
    assert (program, arguments[0]) == ("sync-service", name)
    create_parser().parse_args(arguments)


def check_settings(given: dict[str, str], *, secret: AbstractSet[str] = frozenset()) -> None:
    """Check that the names are settings, that their values are valid, and that `serve` gets all that it needs."""
    assert set(given) | secret <= set(iter_setting_names())
    assert set(REQUIRED_TO_SERVE) <= set(given) | secret | PLATFORM_SETTINGS
    read_settings(given)


# --- Kubernetes ---------------------------------------------------------------------------------------------------


def read_resources() -> dict[str, dict[str, Any]]:
    """Return the resources that kustomization.yaml names, by kind."""
    names = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    resources = [yaml.safe_load((KUBERNETES / name).read_text()) for name in names]
    return {resource["kind"]: resource for resource in resources}


def get_container(resource: dict[str, Any]) -> dict[str, Any]:
    (container,) = resource["spec"]["template"]["spec"]["containers"]
    return dict(container)


def test_every_resource_is_valid_by_the_schemas_of_kubernetes() -> None:
    resources = read_resources()
    assert set(resources) == {
        "Deployment",
        "Service",
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
        "NetworkPolicy",
        "Job",
    }
    secret = yaml.safe_load((KUBERNETES / "secret.example.yaml").read_text())
    for resource in [*resources.values(), secret]:
        # 1.30 is the first version with a `sleep` in preStop that needs no feature gate.
        for version in ("1.30", kubernetes_validate.latest_version()):
            kubernetes_validate.validate(resource, version, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**secret, "stringDat": {}}, "1.30", strict=True)


def test_kustomize_builds_the_resources_with_one_image() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run([kubectl, "kustomize", KUBERNETES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    built = {resource["kind"]: resource for resource in yaml.safe_load_all(done.stdout)}
    assert built.keys() == read_resources().keys()
    images = {get_container(built[kind])["image"] for kind in ("Deployment", "Job")}
    assert images == {"registry.example.com/sync-service:0.1.0"}


def test_traffic_reaches_ready_pods_of_the_service_only() -> None:
    """A pod of the migration has no port, so no selector for traffic may match it."""
    found = read_resources()
    web = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    migration = found["Job"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        found["Deployment"]["spec"]["selector"]["matchLabels"],
        found["Service"]["spec"]["selector"],
        found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= web.items()
        assert not selector.items() <= migration.items()
    for labels in (web, migration):
        assert found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    container = get_container(found["Deployment"])
    assert container["ports"] == [{"name": "http", "containerPort": PORT}]
    assert {variable["name"]: variable["value"] for variable in container["env"]}["PORT"] == str(PORT)
    assert found["Service"]["spec"]["ports"][0]["targetPort"] == "http"
    assert found["NetworkPolicy"]["spec"]["ingress"] == [{"ports": [{"port": PORT}]}]
    assert found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == found["Deployment"]["metadata"]["name"]
    assert "replicas" not in found["Deployment"]["spec"]


def test_the_probes_ask_the_right_route_and_a_stop_is_long_enough() -> None:
    pod = read_resources()["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["startupProbe"]["httpGet"]["path"] == container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["readinessProbe"]["timeoutSeconds"] > READY_TIMEOUT
    wait = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > wait + STOP_TIMEOUT


@pytest.mark.parametrize(("kind", "command"), [("Deployment", "serve"), ("Job", "migrate")])
def test_a_pod_runs_a_command_without_rights_and_with_the_secret(kind: str, command: str) -> None:
    pod = read_resources()[kind]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    check_command(container["args"], command)
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == USER
    assert f"USER {USER}:{USER}" in (DEPLOY / "Dockerfile").read_text()
    assert pod["automountServiceAccountToken"] is False
    rights = container["securityContext"]
    assert (rights["allowPrivilegeEscalation"], rights["readOnlyRootFilesystem"]) == (False, True)
    assert rights["capabilities"] == {"drop": ["ALL"]}
    assert {"requests", "limits"} == container["resources"].keys()
    secret = yaml.safe_load((KUBERNETES / "secret.example.yaml").read_text())
    assert container["envFrom"] == [{"secretRef": {"name": secret["metadata"]["name"]}}]
    assert set(secret["stringData"].values()) == {""}
    given = {variable["name"]: variable["value"] for variable in container.get("env", [])}
    check_settings(given, secret=set(secret["stringData"]))
    (mapping,) = [volume for volume in pod["volumes"] if volume["name"] == "mapping"]
    assert mapping["configMap"]["optional"]
    assert {"name": "mapping", "mountPath": container["workingDir"], "readOnly": True} in container["volumeMounts"]


# --- platforms that build the image -------------------------------------------------------------------------------


def test_heroku_migrates_before_it_serves() -> None:
    manifest = yaml.safe_load((DEPLOY / "heroku.yml").read_text())
    assert manifest["build"]["docker"] == {"web": "Dockerfile"}
    assert manifest["release"]["image"] == "web"
    check_command(manifest["release"]["command"][0], "migrate")
    check_command(manifest["run"]["web"], "serve")
    app = json.loads((DEPLOY / "app.json").read_text())
    assert app["stack"] == "container"
    assert app["addons"] == ["heroku-postgresql"]
    values = {name: entry["value"] for name, entry in app["env"].items() if "value" in entry}
    check_settings(values, secret=set(app["env"]) - set(values))
    assert read_settings(values).sync_keep_alive.total_seconds() > 90  # the router's own timeout


def test_render_migrates_before_it_serves() -> None:
    blueprint = yaml.safe_load((DEPLOY / "render.yaml").read_text())
    (service,), (database,) = blueprint["services"], blueprint["databases"]
    check_command(service["preDeployCommand"], "migrate")
    assert (DEPLOY.parent / service["dockerContext"] / service["dockerfilePath"]).samefile(DEPLOY / "Dockerfile")
    assert service["healthCheckPath"] == "/healthz"
    assert service["maxShutdownDelaySeconds"] > STOP_TIMEOUT
    variables = {variable["key"]: variable for variable in service["envVars"]}
    assert variables["DATABASE_URL"]["fromDatabase"]["name"] == database["name"]
    assert not [name for name, variable in variables.items() if "value" in variable]
    check_settings({}, secret=set(variables))


def test_fly_migrates_before_it_serves() -> None:
    config = tomllib.loads((DEPLOY / "fly.toml").read_text())
    check_command(config["deploy"]["release_command"], "migrate")
    assert config["kill_timeout"] > STOP_TIMEOUT
    assert config["kill_signal"] == "SIGTERM"
    service = config["http_service"]
    assert str(service["internal_port"]) == config["env"]["PORT"]
    assert [check["path"] for check in service["checks"]] == ["/readyz"]
    assert int(service["checks"][0]["timeout"].rstrip("s")) > READY_TIMEOUT
    check_settings(config["env"], secret={"CLERK_WEBHOOK_SIGNING_SECRET"})


def test_railway_migrates_before_it_serves() -> None:
    config = json.loads((DEPLOY / "railway.json").read_text())
    assert (DEPLOY.parent / config["build"]["dockerfilePath"]).samefile(DEPLOY / "Dockerfile")
    check_command(config["deploy"]["preDeployCommand"][0], "migrate")
    check_command(config["deploy"]["startCommand"], "serve")
    assert config["deploy"]["healthcheckPath"] == "/readyz"
    assert config["deploy"]["drainingSeconds"] > STOP_TIMEOUT


def test_the_page_names_every_file() -> None:
    page = (DEPLOY.parent / "sync_service" / "docs" / "deploy.md").read_text()
    others = {"requirements.lock", "sync.toml", "prometheus", "grafana"}
    for file in DEPLOY.iterdir():
        assert file.name in others or f"`deploy/{file.name}{'/' if file.is_dir() else ''}`" in page, file.name


def test_no_file_contains_a_secret() -> None:
    for file in DEPLOY.rglob("*"):
        if file.is_file() and file.suffix != ".lock":
            assert not re.search(r"whsec_[A-Za-z0-9+/]{8}|[sp]k_(?:test|live)_|://\w+:[^$\s@]+@", file.read_text()), (
                file
            )
