"""`memleak scan-code`: leak patterns found by reading source, never by running it."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import typer

from pytest_memleak import __version__
from pytest_memleak.cli import refusal
from pytest_memleak.cli import scan_options as options
from pytest_memleak.cli.scan_mending import NAME, mend, note

if TYPE_CHECKING:
    from pytest_memleak.model_scan import ScanResult
    from pytest_memleak.scan.settings import ScanSettings

_STDIN: Final = "-"
_FORMATS: Final = ("text", "json", "sarif", "github")
_MAX_WIDTH: Final = 120


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """What was asked for, checked."""

    paths: tuple[str, ...]
    settings: ScanSettings
    format: str
    diff: str
    runtime: str
    cache: bool
    output: str
    statistics: bool


def scan_code(
    # Typer 0.9 takes no default for a list of arguments but None.
    paths: list[str] = typer.Argument(  # noqa: B008
        None, show_default=".", help="Files and folders; - reads one file from stdin."
    ),
    output_format: options.Format = "text",
    select: options.Codes = [],  # noqa: B006
    ignore: options.NotCodes = [],  # noqa: B006
    severity: options.Severity = "",
    confidence: options.Confidence = "",
    exclude: options.Globs = [],  # noqa: B006
    baseline: options.Baseline = "",
    write_baseline: options.WriteBaseline = "",
    diff: options.Diff = "",
    runtime: options.Runtime = "",
    explain: options.Explain = "",
    statistics: options.Statistics = False,
    fix: options.Fix = False,
    diff_only: options.DiffOnly = False,
    fix_bounds: options.FixBounds = False,
    no_cache: options.NoCache = False,
    output: options.Output = "",
) -> None:
    """Find memory-leak patterns in source, without running it.

    Exit codes: 0 none, 1 findings, 2 usage, or no finding and something that could not be read.

    Example: memleak scan-code ./app
    """
    if explain:
        _explain(explain)
    paths = paths or ["."]
    _refuse_wrong(paths, output_format, mends=fix or diff_only, bounds=fix_bounds)
    asked = _asked(select=select, ignore=ignore, exclude=exclude, severity=severity, confidence=confidence)
    request = _Request(
        paths=tuple(paths),
        settings=_settings(paths[0], asked, baseline=baseline, is_new=bool(write_baseline)),
        format=output_format,
        diff=diff,
        runtime=runtime,
        cache=not no_cache,
        output=output,
        statistics=statistics,
    )
    result = _scanned(request)
    if write_baseline:
        _write_baseline(Path(write_baseline), result)
    if fix or diff_only:
        result = _mended(request, result, bounds=fix_bounds, write=not diff_only)
    _show(request, result)
    _leave(result)


def _mended(request: _Request, result: ScanResult, *, bounds: bool, write: bool) -> ScanResult:
    """Mend what can be, and scan again; where nothing is to be written, that is all."""
    is_changed = mend(result.findings, bounds=bounds, write=write)
    if not write:
        _warn(result)
        _leave(result)
    return _scanned(request) if is_changed else result


def _explain(word: str) -> NoReturn:
    """Print the text of one rule."""
    from pytest_memleak.reports.explain import explain
    from pytest_memleak.scan.registry import RULES
    from pytest_memleak.scan.settings import CODES, SettingError, parse_codes

    try:
        codes = parse_codes([word], "--explain")
    except SettingError as error:
        refusal.refuse(NAME, str(error))
    not_reported = {rule.CODE: rule.NOT_REPORTED for rule in RULES}
    texts = [explain(code, CODES[code], not_reported.get(code, ()), width=_width()) for code in codes]
    refusal.say("\n\n".join(texts))
    raise typer.Exit(refusal.CLEAN)


def _width() -> int:
    return min(shutil.get_terminal_size().columns, _MAX_WIDTH)


def _refuse_wrong(paths: Sequence[str], output_format: str, *, mends: bool, bounds: bool) -> None:
    """What can be told to be wrong without reading anything."""
    if output_format not in _FORMATS:
        refusal.refuse(NAME, f"--format expects {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}, got {output_format!r}")
    if mends and _STDIN in paths:
        refusal.refuse(NAME, "--fix and --diff-only rewrite files, and - is none")
    if bounds and not mends:
        refusal.refuse(NAME, "--fix-bounds goes with --fix or --diff-only")


def _asked(
    *, select: Sequence[str], ignore: Sequence[str], exclude: Sequence[str], severity: str, confidence: str
) -> ScanSettings:
    """What the command line asks for."""
    from pytest_memleak.scan import settings

    try:
        return settings.ScanSettings(
            select=settings.parse_codes(select, "--select"),
            ignore=settings.parse_codes(ignore, "--ignore"),
            exclude=tuple(exclude),
            severity=settings.parse_level(severity, "--severity") if severity else "",
            confidence=settings.parse_level(confidence, "--confidence") if confidence else "",
        )
    except settings.SettingError as error:
        refusal.refuse(NAME, str(error))


def _settings(first: str, asked: ScanSettings, *, baseline: str, is_new: bool) -> ScanSettings:
    """The command line over the pyproject.toml that is nearest to the first path; a new baseline knows of no old."""
    from pytest_memleak.scan import settings

    try:
        merged = settings.merged(settings.configured(_folder(first)), dataclasses.replace(asked, baseline=baseline))
    except settings.SettingError as error:
        refusal.refuse(NAME, str(error))
    return dataclasses.replace(merged, baseline="") if is_new else merged


def _folder(path: str) -> Path:
    place = Path.cwd() if path == _STDIN else Path(path).absolute()
    return place if os.path.isdir(place) else place.parent  # noqa: PTH112  (Path raises where it may not look)


def _scanned(request: _Request) -> ScanResult:
    """Scan, and keep what was asked for."""
    from pytest_memleak.scan import engine
    from pytest_memleak.scan.baseline import BaselineError, fresh
    from pytest_memleak.scan.changed import ChangedError, changed
    from pytest_memleak.scan.kept import FOLDER
    from pytest_memleak.scan.settings import reaches
    from pytest_memleak.scan.sources import ScanRefused

    settings = request.settings
    try:
        since = changed(request.diff, _folder(request.paths[0])) if request.diff else None
        result = engine.scan(
            request.paths,
            select=settings.select,
            ignore=settings.ignore,
            exclude=settings.exclude,
            cache_dir=FOLDER if request.cache else None,
            runtime=Path(request.runtime) if request.runtime else None,
        )
        findings = [
            finding
            for finding in result.findings
            if reaches(finding.severity, settings.severity)
            and reaches(finding.confidence, settings.confidence)
            and (since is None or since.has(finding))
        ]
        if settings.baseline:
            findings = fresh(Path(settings.baseline), findings)
    except (ChangedError, BaselineError, ScanRefused) as error:
        refusal.refuse(NAME, str(error))
    return dataclasses.replace(result, findings=tuple(findings))


def _write_baseline(path: Path, result: ScanResult) -> NoReturn:
    """Write what is known; from now on only what is new counts."""
    from pytest_memleak.scan import baseline
    from pytest_memleak.units import counted

    try:
        baseline.write(path, result.findings)
    except baseline.BaselineError as error:
        refusal.refuse(NAME, str(error))
    _warn(result)
    refusal.say(f"{counted(len(result.findings), 'finding')} written to {path}; use it with --baseline {path}")
    raise typer.Exit(refusal.USAGE if _is_unread(result) else refusal.CLEAN)


def _show(request: _Request, result: ScanResult) -> None:
    """Print or write the report; warnings go to stderr, so that what is printed can be read by programs."""
    from pytest_memleak.reports import scan_text

    _warn(result)
    text = _rendered(request, result)
    if request.output:
        try:
            Path(request.output).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            refusal.refuse(NAME, f"--output {request.output}: {error.strerror or error}")
        refusal.say(f"{scan_text.summary(result, places=request.paths)}; written to {request.output}")
    elif text:
        refusal.say(text)
    if request.statistics and result.findings:
        typer.echo(scan_text.statistics(result), err=request.format != "text")


def _rendered(request: _Request, result: ScanResult) -> str:
    from pytest_memleak.reports import sarif, scan_github, scan_json, scan_text
    from pytest_memleak.scan.settings import CODES

    if request.format == "json":
        return scan_json.report(result)
    if request.format == "sarif":
        return sarif.report(result, version=__version__, rules=tuple(CODES.items()))
    if request.format == "github":
        return scan_github.report(result)
    return scan_text.report(result, width=_width(), places=request.paths)


def _warn(result: ScanResult) -> None:
    for warning in result.warnings:
        note(f"warning: {warning.path}: {warning.reason}")


def _leave(result: ScanResult) -> NoReturn:
    """Findings outweigh what could not be read."""
    if result.findings:
        raise typer.Exit(refusal.LEAK)
    raise typer.Exit(refusal.USAGE if _is_unread(result) else refusal.CLEAN)


def _is_unread(result: ScanResult) -> bool:
    return any(warning.is_unread for warning in result.warnings)
