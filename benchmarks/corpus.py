"""Real leaks of published packages, in leaking and fixed versions, and clean cases that look like leaks.

Goal: every leaking version is convicted, and the first leak of its report names the leaking package (in a
site, a holder, or what it says grows) or, where the package is compiled, the line of the app that called it.
No fixed version and no clean case is convicted, but for fixed versions that are known to leak still.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pytest_runs import CHECKOUT, MISSED, OK, build_wheel, environment, run_pytest, say, table

DEFAULT_CORPUS: Final = CHECKOUT.parent / "shared" / "corpus"
DEFAULT_CACHE: Final = Path(tempfile.gettempdir()) / "memleak-corpus"

# A measurement takes 30 s at the most, confirmation and diagnosis some more; what takes this long hangs.
_LIMIT_S: Final = 180.0

_IMPORTS: Final = """\
import sys
import pytest
sys.path.insert(0, {folder!r})
import app as measured
"""

_APP: Final = """
def test_case(memleak):
    memleak.run(measured.app, {endpoint!r}, headers={headers!r}, content={content}).assert_no_leak()
"""

_HIT: Final = """
@pytest.mark.no_leak
def test_case():
    measured.hit()
"""

_ASYNC_HIT: Final = """
import pytest_asyncio

@pytest_asyncio.fixture
async def started():
    await getattr(measured, "startup", nothing)()

async def nothing():
    pass

@pytest.mark.no_leak
@pytest.mark.asyncio
async def test_case(started):
    await measured.hit()
"""

_PACKAGE: Final = """\
import importlib.metadata, json, os, sys
files = importlib.metadata.distribution(sys.argv[1]).files or ()
files = [file for file in files if file.parent.name and not file.parts[0].endswith(".dist-info")]
modules = [str(file.parent) for file in files if file.suffix == ".py"]
compiled = any(file.suffix in (".so", ".pyd") for file in files)
common = os.path.commonpath(modules) if modules else ""
tops = sorted({module.split("/")[0] for module in modules})
json.dump({"names": [common] if common else tops, "compiled": compiled}, sys.stdout)
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One variant of one case."""

    folder: Path
    case: Mapping[str, Any]
    variant: str

    @property
    def name(self) -> str:
        """How the table calls it."""
        return f"{self.folder.name} {self.variant}"

    @property
    def requirements(self) -> Path:
        """The pinned packages."""
        return self.folder / f"requirements-{self.variant}.txt"

    @property
    def leaks(self) -> bool:
        """Whether it is to be convicted."""
        return self.variant == "leaky" or self.case.get("fixed_expected") == "LEAK"

    def test(self) -> str:
        """The test file that measures it."""
        imports = _IMPORTS.format(folder=str(self.folder.resolve()))
        if self.case["entry"] != "app":
            return imports + (_ASYNC_HIT if self.case["entry"] == "async hit" else _HIT)
        endpoint = self.case["endpoint"]
        body = endpoint.get("body")
        text = body if body is None or isinstance(body, str) else json.dumps(body)
        content = None if text is None else f"lambda number: {text!r}.replace('{{i}}', str(number))"
        spelt = f"{endpoint['method']} {endpoint['path']}"
        return imports + _APP.format(endpoint=spelt, headers=endpoint.get("headers"), content=content)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one measurement of a subject gave."""

    subject: Subject
    outcome: str
    right: bool
    named: str
    seconds: float = 0.0
    calls: int = 0
    site: str = "-"
    holder: str = "-"
    why: str = ""


def subjects(corpus: Path, wanted: Sequence[str]) -> list[Subject]:
    """The variants to measure, in the order of their names."""
    found = []
    for path in sorted(corpus.glob("*/case.json")):
        if wanted and path.parent.name not in wanted:
            continue
        case = json.loads(path.read_text(encoding="utf-8"))
        for variant in ("leaky", "fixed"):
            subject = Subject(folder=path.parent, case=case, variant=variant)
            if subject.requirements.exists():
                found.append(subject)
    return found


def measure(subject: Subject, python: str, folder: Path) -> Row:
    """Measure one variant in a process of its own."""
    run = run_pytest(subject.test(), python=python, folder=folder, limit_s=_LIMIT_S)
    if not run.results:
        return Row(subject=subject, outcome="ERROR", right=False, named="-", seconds=run.seconds, why=run.error())
    result = run.results[0]
    outcome = result["outcome"]
    leak = result["leaks"][0] if result["leaks"] else {}
    named = naming(subject, leak, python) if subject.leaks else "-"
    return Row(
        subject=subject,
        outcome=outcome,
        right=(outcome == "LEAK") == subject.leaks,
        named=named,
        seconds=result["seconds"],
        calls=result["calls"],
        site=_site(leak),
        holder=(leak.get("holder") or {}).get("name", "-"),
        why=result["why"],
    )


def naming(subject: Subject, leak: Mapping[str, Any], python: str) -> str:
    """How the first leak points to the package that leaks: "package", "caller", or "NOT NAMED"."""
    package = _package(subject, python)
    # The folders of a case and of its environment are named after the package.
    text = _words(leak).replace(str(subject.folder.resolve()), "").replace(str(Path(python).parents[1]), "")
    for name in package["names"]:
        if name in text or name.replace("/", ".") in text:
            return "package"
    sites = leak.get("sites") or ()
    if package["compiled"] and sites and Path(sites[0]["frame"]["path"]).name == "app.py":
        return "caller"
    return "NOT NAMED"


def _package(subject: Subject, python: str) -> dict[str, Any]:
    """The import names of the leaking distribution, from its own list of files."""
    version = subject.case["leaky_version"] or subject.case["fixed_version"]
    command = [python, "-c", _PACKAGE, version.partition("==")[0]]
    package: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return package


def _words(leak: Mapping[str, Any]) -> str:
    """Where a leak can name a package: paths of its sites, its holder, what it says grows."""
    holder = leak.get("holder") or {}
    words = [leak.get("what", ""), *leak.get("details", ()), holder.get("name", ""), *holder.get("path", ())]
    for site in leak.get("sites") or ():
        words += [frame["path"] for frame in (site["frame"], site["inner"]) if frame]
    return "\n".join(words)


def _site(leak: Mapping[str, Any]) -> str:
    """The first site: the app's line, and the line in the package that it called."""
    sites = leak.get("sites") or ()
    if not sites:
        return str(leak.get("what", "-"))[:60]
    frames = [frame for frame in (sites[0]["frame"], sites[0]["inner"]) if frame]
    return " < ".join(f"{'/'.join(Path(frame['path']).parts[-2:])}:{frame['line']}" for frame in frames)


def report(rows: Sequence[Row]) -> str:
    """The table of all measurements."""
    header = ("case", "verdict", "", "s", "calls", "named by", "first site", "held by")
    lines = [
        (
            row.subject.name, row.outcome, "" if row.right else "WRONG", f"{row.seconds:.1f}", row.calls,
            row.named, row.site[:90], row.holder[:60],
        )
        for row in rows
    ]  # fmt: skip
    wrong = [f"{row.subject.name}: {row.outcome}: {row.why}" for row in rows if not _met(row)]
    return "\n".join([table(header, lines), *(["", "Not as expected:"] if wrong else []), *wrong])


def _met(row: Row) -> bool:
    return row.right and row.named != "NOT NAMED"


def main() -> int:
    """Measure what the command line asks for, and say whether the goal was reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    corpus = os.environ.get("MEMLEAK_CORPUS", DEFAULT_CORPUS)
    parser.add_argument(
        "--corpus",
        type=Path,
        default=corpus,
        help="folder of the cases (MEMLEAK_CORPUS; beside the checkout: shared/corpus)",
    )
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="folder of wheel, environments, results")
    parser.add_argument("--case", action="append", default=[], metavar="NAME", help="only this case (repeatable)")
    parser.add_argument("--variant", choices=("leaky", "fixed"), help="only this variant")
    parser.add_argument("--repeat", type=int, default=1, help="measure each variant this often")
    parser.add_argument("--jobs", type=int, default=1, help="measurements at the same time")
    parser.add_argument("--keep-wheel", action="store_true", help="use the cache's wheel, do not build one")
    parser.add_argument("--revision", help="measure this revision of the checkout, not its present files")
    arguments = parser.parse_args()
    chosen = [s for s in subjects(arguments.corpus, arguments.case) if arguments.variant in (None, s.variant)]
    if not chosen:
        parser.error(f"no such case in {arguments.corpus}")
    kept = sorted((arguments.cache / "wheel").glob("*.whl")) if arguments.keep_wheel else []
    wheel = kept[0] if kept else build_wheel(arguments.cache / "wheel", arguments.revision)
    rows = _measure_all(chosen, wheel, arguments)
    say(report(rows))
    met = sum(map(_met, rows))
    say(f"\n{met} of {len(rows)} as expected")
    return OK if met == len(rows) else MISSED


def _measure_all(chosen: Sequence[Subject], wheel: Path, arguments: argparse.Namespace) -> list[Row]:
    def one(job: tuple[Subject, int]) -> Row:
        subject, number = job
        key = subject.name.replace(" ", "-")
        extra = ("pytest", "pytest-asyncio") if subject.case["entry"] == "async hit" else ("pytest",)
        python = environment(
            arguments.cache / "environments" / key,
            version=subject.case["python"],
            requirements=subject.requirements,
            extra=extra,
            wheel=wheel,
        )
        row = measure(subject, python, arguments.cache / "results" / f"{key}-{number}")
        verdict = "" if _met(row) else f"  <- {row.why}"
        say(f"{subject.name}: {row.outcome} after {row.seconds:.1f} s, {row.calls} calls{verdict}")
        return row

    jobs = [(subject, number) for number in range(arguments.repeat) for subject in chosen]
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        rows = list(pool.map(one, jobs))
    say("")
    return sorted(rows, key=lambda row: row.subject.name)


if __name__ == "__main__":
    sys.exit(main())
