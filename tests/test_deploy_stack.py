"""deploy/ as it runs: a real Prometheus and a real Alertmanager watch the leaky example shop, and tell of it.

Time in the rules runs 120 times as fast; everything else is what is shipped. It takes a minute and a half.
"""

from __future__ import annotations

import importlib.util
import json
import math
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from deploy_support import ALERTMANAGER, DEBIANS_TEMPLATE, DEPLOY, ROOT, TOKEN, Stack, answer, quicker, running
from docs_support import blocks
from fleet_support import PROMETHEUS
from waiting import until

pytestmark = [
    pytest.mark.skipif(PROMETHEUS is None, reason="needs the program prometheus: apt-get install prometheus"),
    pytest.mark.skipif(ALERTMANAGER is None, reason="needs Debian's program prometheus-alertmanager"),
    pytest.mark.skipif(
        str(ALERTMANAGER).endswith("prometheus-alertmanager") and not DEBIANS_TEMPLATE.exists(),
        reason=f"Debian's prometheus-alertmanager needs its {DEBIANS_TEMPLATE}",
    ),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("aiosqlite", "prometheus_client", "scipy", "uvicorn")),
        reason="needs the extras monitor and demo, and uvicorn",
    ),
]

ENDPOINTS = "/api/debug/memory"

FOUND_S = 180.0
"""A minute of life and the rest of it for the rules; three times that on a busy machine."""


def waited(stack: Stack, alert: str, instance: str) -> None:
    deadline = time.monotonic() + FOUND_S
    while (alert, instance) not in stack.alerts():
        assert time.monotonic() < deadline, f"{alert} of {instance} does not fire; what does: {stack.alerts()}"
        time.sleep(0.5)


def look(instance: str, what: str, method: str = "GET") -> Any:
    """What the monitor's endpoint says to who has the token; the metrics that come of it are scraped later."""
    url = f"http://{instance}{ENDPOINTS}/{what}"
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {TOKEN}"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as got:
        return json.load(got)


def read_some(instance: str) -> None:
    def has_some() -> bool:
        try:
            return len(look(instance, "history")["readings"]) > 4
        except OSError:  # its port opens with the first reading
            return False

    until(has_some, "the monitor has readings")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("stack")) as stack:
        for instance in (stack.leaky, stack.clean):
            read_some(instance)
            look(instance, "leaks")
            look(instance, "growth")
            look(instance, "gc-collect?generation=2&force=true", "POST")
        waited(stack, "MemoryLeak", stack.leaky)
        waited(stack, "MemoryLimitForecast", stack.leaky)
        time.sleep(2)
        look(stack.leaky, "leaks")
        time.sleep(1.5)
        yield stack


def test_the_leak_alone_is_found(stack: Stack) -> None:
    fired = stack.ask("query", query='count_over_time(ALERTS{alertstate="firing"}[1h])')
    names = {(one["metric"]["alertname"], one["metric"].get("instance")) for one in fired["result"]}
    # Prometheus takes five seconds for the first look at its targets, which are ten minutes here.
    names.discard(("MonitorAbsent", None))
    assert {name for name, instance in names if instance != stack.leaky} == set()
    assert {"MemoryLeak", "MemoryLimitForecast"} <= {name for name, _ in names}
    assert {name for name, _ in names} <= {
        "MemoryLeak", "MemoryLimitForecast", "MemoryLimitNear", "MemoryLeakSuspected", "EndpointKeepsMemory",
    }  # fmt: skip


def test_no_rule_fails(stack: Stack) -> None:
    rules = [rule for group in stack.ask("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 20
    assert {rule["name"]: rule["lastError"] for rule in rules if rule.get("lastError")} == {}


def test_the_rate_is_the_leaks(stack: Stack) -> None:
    query = f'process:rss_growth:deriv1h{{instance="{stack.leaky}"}}'
    (found,) = stack.ask("query", query=query)["result"]
    assert float(found["value"][1]) == pytest.approx(4e6, rel=0.35)


def test_it_pages_and_is_told_in_slack(stack: Stack) -> None:
    until(lambda: {"/pagerduty", "/slack"} <= {path for path, _ in stack.told}, "PagerDuty and Slack are told")
    page = next(body for path, body in stack.told if path == "/pagerduty")
    assert page["event_action"] == "trigger"
    assert page["routing_key"] == "0123456789abcdef0123456789abcdef"
    assert page["payload"]["severity"] == "critical"
    assert page["payload"]["summary"].startswith("[FIRING:1] MemoryLimit")
    runbook = page["payload"]["custom_details"]["runbook"]
    assert runbook.startswith("https://guides.example.com/pytest-memleak/docs/observability.md#memorylimit")
    assert stack.leaky in page["payload"]["custom_details"]["firing"]
    told = [body for path, body in stack.told if path == "/slack" and body["channel"] == "#memory"]
    assert any(body["attachments"][0]["title_link"] == runbook for body in told)
    assert all("{{" not in json.dumps(body) for _, body in stack.told)


def test_webhooks_are_told_by_tier(stack: Stack) -> None:
    def tiers() -> dict[str, set[str]]:
        return {
            path: {alert["labels"]["severity"] for _, one in told for alert in one["alerts"]}
            for path, told in _by_path(stack).items()
        }

    until(lambda: {"/webhook/pagerduty", "/webhook/slack-critical"} <= set(tiers()), "both are told")
    named = {"pagerduty": "critical", "slack-critical": "critical", "slack-warning": "warning", "slack-info": "info"}
    assert all(severities == {named[path.removeprefix("/webhook/")]} for path, severities in tiers().items())


def _by_path(stack: Stack) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    found: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for path, body in list(stack.told):
        if path.startswith("/webhook/"):
            found.setdefault(path, []).append((path, body))
    return found


def test_the_lesser_of_one_kind_is_mute(stack: Stack) -> None:
    def mute() -> set[str]:
        alerts = answer(f"{stack.alertmanager}/api/v2/alerts")
        return {one["labels"]["alertname"] for one in alerts if one["status"]["inhibitedBy"]}

    assert until(lambda: "MemoryLeak" in mute(), "the warning is mute while the page is out")


def test_the_published_query_for_growth_finds_nothing(stack: Stack) -> None:
    assert stack.ask("query", query="rate(process_rss_bytes[30s]) > 52428800")["result"] == []
    assert stack.ask("query", query="histogram_quantile(0.95, gc_duration_ms)")["result"] == []


QUERIES = [
    pytest.param(target["expr"], id=f"{panel['title']}-{target['refId']}")
    for panel in json.loads((DEPLOY / "grafana" / "dashboard.json").read_text(encoding="utf-8"))["panels"]
    for target in panel.get("targets", ())
]


@pytest.mark.parametrize("query", QUERIES)
def test_each_query_of_the_dashboard_is_answered(stack: Stack, query: str) -> None:
    asked = query.replace("$job", "shop").replace("$instance", ".*").replace("$__rate_interval", "30s")

    def is_answered() -> bool:
        found = stack.ask("query", query=asked)["result"]
        return any(not math.isnan(float(one["value"][1])) for one in found)

    # A quarter of an hour is some seconds here, in which a busy machine samples no request.
    assert until(is_answered, f"an answer to {asked}")


def test_each_query_of_the_guide_is_answered(stack: Stack) -> None:
    for query in "".join(blocks(ROOT / "docs" / "observability.md", "promql")).splitlines():
        found = stack.ask("query", query=quicker(query))["result"]
        # a leak and endpoints are there; no jump, and no collection that takes half a second
        assert bool(found) == ("deriv" in query or "topk" in query), query


def test_the_dashboards_variables_are_filled(stack: Stack) -> None:
    dashboard = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text(encoding="utf-8"))
    for variable in dashboard["templating"]["list"][1:]:
        selector, label = variable["definition"].removeprefix("label_values(").removesuffix(")").rsplit(", ", 1)
        assert stack.ask(f"label/{label}/values", **{"match[]": selector.replace("$job", "shop")})
    expression = dashboard["annotations"]["list"][0]["expr"].replace("$job", "shop").replace("$instance", ".*")
    assert "result" in stack.ask("query", query=expression)


def test_a_monitor_that_is_gone_is_told(stack: Stack) -> None:
    """The last: it ends the shop that does not leak."""
    stack.end_clean()
    waited(stack, "MonitorDown", stack.clean)
    assert until(lambda: "/webhook/slack-warning" in _by_path(stack), "the warning is told")
