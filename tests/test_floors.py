"""The house: imports point down, the edges keep their libraries to themselves, and the plugin is light."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import pytest_memleak

PACKAGE = Path(pytest_memleak.__file__).parent

FLOORS = {
    "model": 0,
    "model_doctor": 0,
    "model_objects": 0,
    "settings": 0,
    "model_fleet": 0,
    "model_logs": 0,
    "model_monitor": 0,
    "model_scan": 0,
    "model_soak": 0,
    "model_watch": 0,
    "slugs": 0,
    "units": 0,
    "bootstrap": 3,
    "wire": 0,
    "probes": 1,
    "verdict": 1,
    "diagnosis": 1,
    "workloads": 1,
    "patterns": 1,
    "scan": 1,
    "logs": 1,
    "reports": 2,
    "hunt": 3,
    "agent": 3,
    "soak": 3,
    "watch": 3,
    "inspection": 3,
    "fleet": 3,
    "doctor": 3,
    "plugin": 4,
    "cli": 4,
    "monitor": 4,
    "__main__": 5,
}

PARTS = {
    "diagnosis": {"patterns", "probes", "verdict", "workloads"},
    "probes": {"workloads"},
    "patterns": set[str](),
    "scan": {"patterns"},
    "logs": set[str](),
    "verdict": set[str](),
    "workloads": set[str](),
}
"""Which part of floor 1 may use which other."""

OWNERS = {
    "pytest": "plugin",
    "_pytest": "plugin",
    "pluggy": "plugin",
    "typer": "cli",
    "click": "cli",
    "rich": "cli",
    "prometheus_client": "monitor",
}
"""Libraries that one edge imports and nobody else."""

USERS_OWN = {"fastapi", "starlette", "httpx", "httpx2"}
"""What the measured program may have or not: never imported with a module of ours, but the monitor's, which the
program itself imports."""

HEAVY = {
    "asyncio",
    "fastapi",
    "httpx",
    "httpx2",
    "locust",
    "memray",
    "numpy",
    "objgraph",
    "psutil",
    "pympler",
    "rich",
    "scipy",
    "sqlite3",
    "starlette",
    "tracemalloc",
    "trio",
    "typer",
}


class Import(NamedTuple):
    module: str
    """The module that imports."""

    imported: str
    at_import: bool
    """Whether it happens when the module itself is imported."""

    line: int

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.imported}"


def modules() -> dict[str, Path]:
    """The package's own modules by dotted name, without the examples that a wheel carries."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if parts[1] != "examples":
            found[".".join(part for part in parts if part != "__init__")] = path
    return found


MODULES = modules()


def component(module: str) -> str:
    """The floor's word for a module of ours; empty for the package itself."""
    return module.removeprefix("pytest_memleak").lstrip(".").partition(".")[0]


def imports_of(module: str) -> Iterator[Import]:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    yield from _imports(tree, module, at_import=True)


def _imports(node: ast.AST, module: str, *, at_import: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(module, alias.name, at_import, child.lineno)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{module}:{child.lineno}: a relative import"
            for alias in child.names:
                full = f"{child.module}.{alias.name}"
                yield Import(module, full if full in MODULES else str(child.module), at_import, child.lineno)
        else:
            later = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) or _is_for_types(child)
            yield from _imports(child, module, at_import=at_import and not later)


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


IMPORTS = [found for module in MODULES for found in imports_of(module)]
OWN = [found for found in IMPORTS if found.imported.split(".")[0] == "pytest_memleak"]


def test_the_scan_sees_the_package() -> None:
    assert {"pytest_memleak.model", "pytest_memleak.verdict.trend", "pytest_memleak.plugin"} <= set(MODULES)
    assert any(found.module == "pytest_memleak.hunt" and component(found.imported) == "verdict" for found in OWN)


def test_every_module_has_a_floor() -> None:
    assert {component(module) for module in MODULES} - {""} <= set(FLOORS)


def test_imports_point_down() -> None:
    upward = [
        str(found)
        for found in OWN
        if component(found.imported) and FLOORS[component(found.module)] < FLOORS[component(found.imported)]
    ]
    assert upward == []


def test_the_package_itself_imports_none_of_its_modules() -> None:
    assert [str(found) for found in OWN if not component(found.module)] == []


def test_parts_of_floor_one_use_each_other_only_along_the_listed_arrows() -> None:
    strange = [
        str(found)
        for found in OWN
        if (part := component(found.module)) in PARTS
        and (other := component(found.imported)) in PARTS
        and other not in {part, *PARTS[part]}
    ]
    assert strange == []
    assert {name for name, floor in FLOORS.items() if floor == 1} == set(PARTS)


def test_the_listed_arrows_make_no_circle() -> None:
    order = list(graphlib.TopologicalSorter(PARTS).static_order())
    assert set(order) == set(PARTS)


def test_probes_know_of_workloads_only_the_steps() -> None:
    used = {found.imported for found in OWN if component(found.module) == "probes"}
    assert {name for name in used if component(name) == "workloads"} <= {"pytest_memleak.workloads.steps"}


def test_the_edges_do_not_import_one_another() -> None:
    edges = {name for name, floor in FLOORS.items() if floor == 4}
    crossing = [
        str(found)
        for found in OWN
        if (edge := component(found.module)) in edges and component(found.imported) in edges - {edge}
    ]
    assert crossing == []


def test_no_module_imports_itself_in_a_circle() -> None:
    graph: dict[str, set[str]] = defaultdict(set)
    for found in OWN:
        if found.at_import and found.imported != found.module:
            graph[found.module].add(found.imported)
    assert set(graphlib.TopologicalSorter(graph).static_order()) <= set(MODULES)


@pytest.mark.parametrize("library, owner", OWNERS.items())
def test_a_library_of_an_edge_is_imported_there_only(library: str, owner: str) -> None:
    strange = [
        str(found) for found in IMPORTS if found.imported.split(".")[0] == library and component(found.module) != owner
    ]
    assert strange == []


def test_what_the_measured_program_may_lack_is_never_imported_with_a_module() -> None:
    strange = [
        str(found)
        for found in IMPORTS
        if found.at_import and found.imported.split(".")[0] in USERS_OWN and component(found.module) != "monitor"
    ]
    assert strange == []


def loaded_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter has after a statement."""
    code = f"{statement}; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_plugin_imports_nothing_heavy_before_a_test_is_measured() -> None:
    added = loaded_by("import pytest, pytest_memleak.plugin") - loaded_by("import pytest")
    assert "pytest_memleak.plugin" in added
    assert {name for name in added if name.partition(".")[0] in HEAVY} == set()


def test_the_plugin_imports_of_the_package_only_words() -> None:
    own = {component(name) for name in loaded_by("import pytest_memleak.plugin") if name.startswith("pytest_memleak.")}
    assert {FLOORS[name] for name in own - {"plugin"}} == {0}
