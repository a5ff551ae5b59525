"""The guide to the monitor, held against the monitor: its endpoints, what they take and answer, what is set up."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")

from docs_support import ROOT, blocks, stages, tables
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from pytest_memleak.monitor import answers, setup_memory_monitoring, teardown
from pytest_memleak.monitor.figures import FunctionMemory
from pytest_memleak.monitor.instruments import Instruments
from pytest_memleak.monitor.settings import Settings
from pytest_memleak.monitor.state import Monitor
from pytest_memleak.monitor.tracked import memory_of
from pytest_memleak.units import MB

GUIDE = ROOT / "docs" / "observability.md"

ALIKE = 0.4
"""What the printed call keeps is strings, whose heads differ by a fifth between 3.11 and 3.12."""


def document() -> dict[str, Any]:
    """The monitor's own OpenAPI document, its paths below the prefix."""
    app = FastAPI()
    monitor = setup_memory_monitoring(app, token="secret")
    try:
        found = app.openapi()
    finally:
        teardown(app)
    operations = {
        f"{method.upper()} {path.removeprefix(monitor.settings.prefix)}": operation
        for path, of_path in found["paths"].items()
        for method, operation in of_path.items()
    }
    return {"operations": operations, "order": found["components"]["schemas"]["TracingOrder"]["properties"]}


def ticked(cell: str) -> list[str]:
    """What of a cell is in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def limits_of(schema: dict[str, Any]) -> tuple[str, str]:
    """A parameter's default and range, as the guide writes them."""
    limits = "above 0" if schema.get("exclusiveMinimum") == 0 else ""
    if "minimum" in schema:
        limits = f"{schema['minimum']:.0f} to {schema['maximum']:.0f}"
    return json.dumps(schema["default"]), limits


def test_the_table_of_endpoints_is_the_monitors() -> None:
    found = document()
    expected = {
        name: [parameter["name"] for parameter in operation.get("parameters", ())]
        for name, operation in found["operations"].items()
    }
    expected["POST /tracing"] = list(found["order"])
    assert {ticked(name)[0]: ticked(takes) for name, _, takes, _ in tables(GUIDE)["endpoint/4"]} == expected


def test_the_table_of_parameters_is_theirs() -> None:
    found = document()
    parameters = [one for operation in found["operations"].values() for one in operation.get("parameters", ())]
    expected = {one["name"]: limits_of(one["schema"]) for one in parameters}
    expected |= {name: limits_of(schema) for name, schema in found["order"].items()}
    told = {ticked(row[0])[0]: (ticked(row[2])[0], row[3]) for row in tables(GUIDE)["parameter/5"]}
    assert told == expected


def test_the_table_of_arguments_is_that_of_the_one_line() -> None:
    told = [(ticked(name)[0], ticked(default)[0]) for name, default, _ in tables(GUIDE)["argument/3"]]
    _, *arguments = inspect.signature(setup_memory_monitoring).parameters.values()
    assert told == [(one.name, repr(one.default).replace("'", '"')) for one in arguments]


def test_the_answer_of_leaks_has_its_shape_and_agrees_with_itself() -> None:
    (printed,) = (json.loads(block) for block in blocks(GUIDE, "json"))
    leaks = answers.Leaks(**printed)
    assert set(printed) == set(inspect.signature(answers.Leaks).parameters)
    assert {ticked(row[0])[0] for row in tables(GUIDE)["field/2"]} <= set(printed)
    # An endpoint is judged without the first tenth of the readings, and the whole with them.
    minutes = leaks.seconds / 60
    for share in leaks.endpoints:
        rate = share.bytes_per_request.value * share.requests / minutes / MB
        assert share.mb_per_min.value == pytest.approx(rate, rel=0.15)
    named = sum(share.mb_per_min.value for share in leaks.endpoints)
    assert named + leaks.unattributed_mb_per_min == pytest.approx(leaks.mb_per_min.value, rel=0.02)


def test_what_the_tracked_call_keeps_is_what_is_printed() -> None:
    (project,) = stages(GUIDE)
    app: dict[str, Any] = {"__name__": "app.main"}
    exec(compile(project["app/main.py"], "app/main.py", "exec"), app)
    for number in range(50):
        asyncio.run(app["search"](f"word {number}"))
    app["export"]()
    search, export = memory_of(app["search"]), memory_of(app["export"])
    if search.caveats or not search.exact_calls or not export.exact_calls:
        pytest.skip(f"nothing exact can be read here: {search.caveats}")
    kept, exported = search.mean_bytes or 0.0, export.mean_bytes or 0.0
    printed = next(block for block in blocks(GUIDE, "text") if "exact" in block).splitlines()
    assert [line.partition(":")[0] for line in printed] == [search.name, export.name]
    (said, said_exported) = (float(re.findall(r"([\d.]+) kB", line)[0]) * 1_000 for line in printed)
    assert kept == pytest.approx(said, rel=ALIKE)
    assert exported == pytest.approx(said_exported, rel=0.1)
    assert export.returned_mean_bytes == pytest.approx(exported, rel=0.1)
    # The regression over the requests of a real server says the same of that function.
    (answer,) = (json.loads(block) for block in blocks(GUIDE, "json"))
    (share,) = (one for one in answer["endpoints"] if one["leaks"])
    assert kept == pytest.approx(share["bytes_per_request"]["value"], rel=ALIKE)


def test_what_is_said_of_a_functions_figures_is_there() -> None:
    (row,) = (row for row in tables(GUIDE)["where/2"] if row[0].startswith("`memory_of"))
    named = [name.removesuffix("()") for name in ticked(row[1])]
    assert named
    assert [name for name in named if not hasattr(FunctionMemory, name)] == []


def test_each_metric_has_its_place_in_the_guide() -> None:
    registry = CollectorRegistry()
    Instruments(Monitor(Settings()), registry)
    counters = {"counter": "_total"}
    names = {metric.name + counters.get(metric.type, "") for metric in registry.collect()}
    assert len(names) > 10
    text = GUIDE.read_text(encoding="utf-8")
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []


def test_each_critical_metric_says_what_is_normal_and_what_is_alarming() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    part = text.partition("## The critical metrics")[2].partition("### The others")[0]
    sections = part.split("\n### ")[1:]
    assert [section.partition("\n")[0] for section in sections] == [
        "RSS growth rate", "Endpoint delta", "Garbage collection", "Object growth",
    ]  # fmt: skip
    assert all("| normal | alarming |" in section for section in sections)
