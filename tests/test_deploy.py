"""deploy/ as it lies there: every file is what its program accepts, and they agree with each other and the guides."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy_support import AMTOOL, DEPLOY, PROMTOOL, ROOT, RULES, load
from docs_support import slugs

TESTS = sorted((DEPLOY / "prometheus" / "tests").glob("*.yml"))
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
GUIDE = ROOT / "docs" / "observability.md"

needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="needs the program promtool: apt-get install prometheus")
needs_amtool = pytest.mark.skipif(AMTOOL is None, reason="needs the program amtool of Debian's prometheus-alertmanager")


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def rules() -> list[dict[str, Any]]:
    return [rule for path in RULES for group in load(path)["groups"] for rule in group["rules"]]


ALERTS = [rule for rule in rules() if "alert" in rule]
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text(encoding="utf-8"))


def run(*command: object) -> str:
    """What a program that succeeds prints."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
def test_prometheus_accepts_its_configuration() -> None:
    config = run(PROMTOOL, "check", "config", DEPLOY / "prometheus" / "prometheus.yml")
    assert "prometheus.yml is valid prometheus config file syntax" in config
    assert run(PROMTOOL, "check", "rules", *RULES).count("SUCCESS: ") == len(RULES)


@needs_promtool
@pytest.mark.parametrize("path", TESTS, ids=[path.stem for path in TESTS])
def test_what_must_fire_does_and_what_must_not_does_not(path: Path) -> None:
    assert "SUCCESS" in run(PROMTOOL, "test", "rules", path)


def test_each_alert_has_a_series_that_fires_it() -> None:
    text = (DEPLOY / "prometheus" / "tests" / "must-fire.yml").read_text(encoding="utf-8")
    assert [rule["alert"] for rule in ALERTS if rule["alert"] not in text] == []


@pytest.mark.parametrize("name", ["alertmanager", "alertmanager.webhook"])
@needs_amtool
def test_alertmanager_accepts_its_configuration(name: str) -> None:
    assert "SUCCESS" in run(AMTOOL, "check-config", DEPLOY / "alertmanager" / f"{name}.yml")


@pytest.mark.parametrize(
    "severity, receivers",
    [("critical", "pagerduty,slack-critical"), ("warning", "slack-warning"), ("info", "slack-info")],
)
@needs_amtool
def test_each_tier_goes_where_it_should(severity: str, receivers: str) -> None:
    config = DEPLOY / "alertmanager" / "alertmanager.yml"
    found = run(AMTOOL, "config", "routes", "test", f"--config.file={config}", f"severity={severity}")
    assert found.split() == [receivers]


def test_the_webhooks_stand_where_pagerduty_and_slack_do() -> None:
    real, tried = (load(DEPLOY / "alertmanager" / name) for name in ("alertmanager.yml", "alertmanager.webhook.yml"))
    assert real["route"] == tried["route"]
    assert real["inhibit_rules"] == tried["inhibit_rules"]
    assert [one["name"] for one in real["receivers"]] == [one["name"] for one in tried["receivers"]]


def test_no_secret_is_written_down() -> None:
    text = (DEPLOY / "alertmanager" / "alertmanager.yml").read_text(encoding="utf-8")
    assert "hooks.slack.com" not in text
    assert {"slack_api_url_file", "routing_key_file"} <= set(re.findall(r"\w+_file", text))
    assert not re.search(r"\b(api_url|routing_key|service_key):", text)


@pytest.mark.parametrize("rule", ALERTS, ids=[rule["alert"] for rule in ALERTS])
def test_each_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["labels"]["kind"]
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    page, anchor = rule["annotations"]["runbook"].split("#")
    assert page == GUIDE.name
    assert anchor == rule["alert"].lower()
    assert anchor in slugs(GUIDE)


def test_the_guide_has_the_rules_as_they_are() -> None:
    """The table of alerts: name, severity, and for how long."""
    text = GUIDE.read_text(encoding="utf-8")
    told = re.findall(r"^\| \[`(\w+)`\]\(#\w+\) \| (\w+) \|", text, re.MULTILINE)
    assert told == [
        (rule["alert"], rule["labels"]["severity"])
        for tier in ("critical", "warning", "info")
        for rule in ALERTS
        if rule["labels"]["severity"] == tier
    ]
    for path in RULES:
        for group in load(path)["groups"]:
            for rule in group["rules"]:
                if "record" in rule:
                    assert f"`{rule['record']}`" in text


def test_the_operators_rules_are_the_same() -> None:
    (manifest,) = documents(DEPLOY / "kubernetes" / "prometheusrule.yaml")
    order = ("limits", "recording", "alerts-critical", "alerts-warning", "alerts-info")
    groups = [group for name in order for group in load(DEPLOY / "prometheus" / "rules" / f"{name}.yml")["groups"]]
    assert manifest["spec"]["groups"] == groups


def test_every_place_has_the_same_limit() -> None:
    (limits,) = load(DEPLOY / "prometheus" / "rules" / "limits.yml")["groups"][0]["rules"]
    found = re.search(r"vector\((\d+)\)", limits["expr"])
    assert found
    compose = load(DEPLOY / "docker-compose.yml")["services"]["app"]
    assert compose["mem_limit"] == f"{found[1]}b"
    (deployment,) = documents(DEPLOY / "kubernetes" / "deployment.yaml")
    limit = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
    assert int(limit.removesuffix("Mi")) << 20 == int(found[1])


@pytest.mark.parametrize("path", MANIFESTS, ids=[path.stem for path in MANIFESTS])
def test_kubernetes_accepts_each_manifest(path: Path) -> None:
    """Those of Kubernetes itself against its published schemas; the operator's kinds have a test of their own."""
    validator = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate")
    for manifest in documents(path):
        if manifest["apiVersion"].startswith(("monitoring.coreos.com/", "kustomize.config.k8s.io/")):
            continue
        # the oldest release that has the schemas, and the newest
        for version in ("1.25", validator.latest_version()):
            assert refused_by(validator, manifest, version) == ""


def refused_by(validator: Any, manifest: dict[str, Any], version: str) -> str:
    """What a published schema has against a manifest; empty for nothing."""
    try:
        validator.validate(manifest, version, strict=True)
    except validator.ValidationError as error:
        return str(error)
    return ""


def kind(name: str) -> dict[str, Any]:
    (found,) = [one for path in MANIFESTS for one in documents(path) if one["kind"] == name]
    return found


def test_the_manifests_fit_each_other() -> None:
    pod = kind("Deployment")["spec"]["template"]
    labels, container = pod["metadata"]["labels"], pod["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": 8000, "metrics": 8001}
    services = [one for path in MANIFESTS for one in documents(path) if one["kind"] == "Service"]
    assert all(one["spec"]["selector"].items() <= labels.items() for one in services)
    monitor = kind("ServiceMonitor")["spec"]
    (watched,) = [
        one for one in services if monitor["selector"]["matchLabels"].items() <= one["metadata"]["labels"].items()
    ]
    assert [port["name"] for port in watched["spec"]["ports"]] == [one["port"] for one in monitor["endpoints"]]
    policy = kind("NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    open_to = {rule["ports"][0]["port"]: "from" in rule for rule in policy["ingress"]}
    assert open_to == {"http": False, "metrics": True}
    reference = container["env"][0]["valueFrom"]["secretKeyRef"]
    assert reference["name"] == kind("Secret")["metadata"]["name"]
    assert reference["key"] in kind("Secret")["stringData"]
    listed = set(kind("Kustomization")["resources"])
    assert listed == {path.name for path in MANIFESTS} - {"kustomization.yaml"}


def test_the_operators_port_name_does_not_take_our_label() -> None:
    """`endpoint` is a label of ours and of the operator's; theirs would make ours `exported_endpoint`."""
    for endpoint in kind("ServiceMonitor")["spec"]["endpoints"]:
        assert {"action": "labeldrop", "regex": "endpoint"} in endpoint["relabelings"]


@pytest.mark.skipif(importlib.util.find_spec("check_jsonschema") is None, reason="needs check-jsonschema")
def test_the_stack_is_as_compose_specifies() -> None:
    run(
        sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec",
        DEPLOY / "docker-compose.yml",
    )  # fmt: skip


def test_the_stack_has_what_it_names() -> None:
    stack = load(DEPLOY / "docker-compose.yml")
    for service in stack["services"].values():
        assert set(service.get("secrets", ())) <= set(stack["secrets"])
        assert set(service["networks"]) <= set(stack["networks"])
        assert set(service.get("depends_on", ())) <= set(stack["services"])
        if "image" in service:
            assert re.search(r":v?\d+\.\d+(\.\d+)?(-|$)", service["image"]), "a version, never `latest`"
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in stack["volumes"] or (DEPLOY / source).exists(), volume
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    targets = [
        target.split(":")[0]
        for config in load(DEPLOY / "prometheus" / "prometheus.yml")["scrape_configs"]
        for target in config["static_configs"][0]["targets"]
    ]
    assert set(targets) - {"localhost"} <= set(stack["services"])
    for copied in re.findall(r"^COPY (.+) \S+$", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE):
        assert all((ROOT / one).exists() for one in copied.split())


def test_the_dashboard_is_laid_out() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: dict[tuple[int, int], str] = {}
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
        assert panel["type"] == "row" or panel["description"]
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == "${datasource}"


def test_grafanas_own_model_takes_the_dashboard() -> None:
    """Read into Grafana's published types and written again, nothing that we say is lost."""
    dashboard = pytest.importorskip("grafana_foundation_sdk.models.dashboard", reason="needs grafana-foundation-sdk")
    encoder = importlib.import_module("grafana_foundation_sdk.cog.encoder")
    plugins = importlib.import_module("grafana_foundation_sdk.cog.plugins")
    plugins.register_default_plugins()
    again = json.loads(encoder.JSONEncoder(sort_keys=True).encode(dashboard.Dashboard.from_json(DASHBOARD)))
    # `definition` is what Grafana itself writes beside the query, and its types do not have.
    assert set(lost(DASHBOARD, again)) == {".id", ".templating.list.1.definition", ".templating.list.2.definition"}


def lost(said: Any, kept: Any, where: str = "") -> list[str]:
    """Where two documents differ, by the first."""
    if isinstance(said, list) and isinstance(kept, list) and len(said) == len(kept):
        said, kept = dict(enumerate(said)), dict(enumerate(kept))
    if isinstance(said, dict) and isinstance(kept, dict):
        missing = object()
        return [one for key in said for one in lost(said[key], kept.get(key, missing), f"{where}.{key}")]
    return [] if said == kept else [where]
