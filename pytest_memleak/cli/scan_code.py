"""`memleak scan-code`: leak patterns found by reading source, never by running it."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from pytest_memleak import __version__
from pytest_memleak.cli import refusal

if TYPE_CHECKING:
    from pytest_memleak.model_scan import Finding, ScanResult
    from pytest_memleak.scan.settings import ScanSettings

_NAME: Final = "scan-code"
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
    output_format: Annotated[str, typer.Option("--format", help="text, json, sarif or github.")] = "text",
    select: Annotated[list[str], typer.Option(help="Only these codes or patterns (comma lists, repeatable).")] = [],  # noqa: B006
    ignore: Annotated[list[str], typer.Option(help="Not these codes or patterns.")] = [],  # noqa: B006
    severity: Annotated[str, typer.Option(help="The least severity: low, medium, high (default: low).")] = "",
    confidence: Annotated[str, typer.Option(help="The least confidence: low, medium, high (default: medium).")] = "",
    exclude: Annotated[list[str], typer.Option(help="Files and folders to leave out (globs, repeatable).")] = [],  # noqa: B006
    baseline: Annotated[str, typer.Option(help="Only findings that this file does not know.")] = "",
    write_baseline: Annotated[str, typer.Option(help="Write the findings to this file as known.")] = "",
    diff: Annotated[str, typer.Option(help="Only findings on lines changed since this commit.")] = "",
    runtime: Annotated[str, typer.Option(help="A --memleak-json result: what it has measured comes first.")] = "",
    explain: Annotated[str, typer.Option(help="Explain one code or pattern, and leave.")] = "",
    statistics: Annotated[bool, typer.Option("--statistics", help="Count the findings by code.")] = False,
    fix: Annotated[bool, typer.Option("--fix", help="Rewrite what can be mended for sure.")] = False,
    diff_only: Annotated[bool, typer.Option("--diff-only", help="Show what --fix would do; change nothing.")] = False,
    fix_bounds: Annotated[
        bool, typer.Option("--fix-bounds", help="With --fix: also bound lru_cache and deque, which drops entries.")
    ] = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Neither use nor write the cache.")] = False,
    output: Annotated[str, typer.Option(help="Write the report to this file.")] = "",
) -> None:
    """Find memory-leak patterns in source, without running it.

    Exit codes: 0 none, 1 findings, 2 usage, or no finding and something that could not be read.

    Example: memleak scan-code ./app
    """
    if explain:
        _explain(explain)
    paths = paths or ["."]
    _refuse_wrong(paths, output_format, is_idle=fix_bounds and not (fix or diff_only))
    line = (severity, confidence, baseline)
    settings = _settings(paths[0], select, ignore, exclude, line)
    request = _Request(
        paths=tuple(paths),
        settings=dataclasses.replace(settings, baseline="") if write_baseline else settings,
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
    if diff_only or fix:
        changed = _fix(result.findings, bounds=fix_bounds, write=not diff_only)
        if diff_only:
            _leave(result)
        result = _scanned(request) if changed else result
    _show(request, result)
    _leave(result)


def _explain(word: str) -> NoReturn:
    """Print the text of one rule."""
    from pytest_memleak.reports.explain import explain
    from pytest_memleak.scan.registry import RULES
    from pytest_memleak.scan.settings import CODES, SettingError, parse_codes

    try:
        codes = parse_codes([word], "--explain")
    except SettingError as error:
        refusal.refuse(_NAME, str(error))
    not_reported = {rule.CODE: rule.NOT_REPORTED for rule in RULES}
    texts = [explain(code, CODES[code], not_reported.get(code, ()), width=_width()) for code in codes]
    refusal.say("\n\n".join(texts))
    raise typer.Exit(refusal.CLEAN)


def _width() -> int:
    return min(shutil.get_terminal_size().columns, _MAX_WIDTH)


def _refuse_wrong(paths: Sequence[str], output_format: str, *, is_idle: bool) -> None:
    """What can be told to be wrong without reading anything."""
    if output_format not in _FORMATS:
        refusal.refuse(_NAME, f"--format expects {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}, got {output_format!r}")
    if is_idle:
        refusal.refuse(_NAME, "--fix-bounds goes with --fix or --diff-only")
    for path in paths:
        if path != "-" and not Path(path).exists():
            refusal.refuse(_NAME, f"{path} does not exist")


def _settings(
    first: str, select: Sequence[str], ignore: Sequence[str], exclude: Sequence[str], line: tuple[str, str, str]
) -> ScanSettings:
    """The command line over the pyproject.toml that is nearest to the first path."""
    from pytest_memleak.scan import settings

    severity, confidence, baseline = line
    try:
        asked = settings.ScanSettings(
            select=settings.parse_codes(select, "--select"),
            ignore=settings.parse_codes(ignore, "--ignore"),
            exclude=tuple(exclude),
            severity=settings.parse_level(severity, "--severity") if severity else "",
            confidence=settings.parse_level(confidence, "--confidence") if confidence else "",
            baseline=baseline,
        )
        return settings.merged(settings.configured(_folder(first)), asked)
    except settings.SettingError as error:
        refusal.refuse(_NAME, str(error))


def _folder(path: str) -> Path:
    place = Path.cwd() if path == "-" else Path(path).absolute()
    return place if place.is_dir() else place.parent


def _scanned(request: _Request) -> ScanResult:
    """Scan, and keep what was asked for."""
    from pytest_memleak.scan import engine
    from pytest_memleak.scan.baseline import BaselineError, fresh
    from pytest_memleak.scan.changed import ChangedError, changed
    from pytest_memleak.scan.kept import FOLDER
    from pytest_memleak.scan.settings import reaches

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
    except (ChangedError, BaselineError, ValueError) as error:
        refusal.refuse(_NAME, str(error))
    return dataclasses.replace(result, findings=tuple(findings))


def _write_baseline(path: Path, result: ScanResult) -> NoReturn:
    """Write what is known; from now on only what is new counts."""
    from pytest_memleak.reports.scan_text import counted
    from pytest_memleak.scan import baseline

    try:
        baseline.write(path, result.findings)
    except baseline.BaselineError as error:
        refusal.refuse(_NAME, str(error))
    _warn(result)
    refusal.say(f"{counted(len(result.findings), 'finding')} written to {path}; use it with --baseline {path}")
    raise typer.Exit(refusal.USAGE if result.warnings else refusal.CLEAN)


def _fix(findings: Sequence[Finding], *, bounds: bool, write: bool) -> bool:
    """Mend or show the diff; whether a file was changed. What stayed as it was is said."""
    from pytest_memleak.reports.scan_text import counted
    from pytest_memleak.scan import fixes

    fixed, left, files = 0, 0, 0
    try:
        for found in fixes.fixes(findings, bounds=bounds):
            if isinstance(found, fixes.FixError):
                _note(str(found))
                continue
            left += len(found.left)
            if not found.fixed:
                continue
            if write:
                try:
                    found.write()
                except fixes.FixError as error:
                    _note(str(error))
                    continue
            else:
                refusal.say(found.diff().rstrip("\n"))
            fixed, files = fixed + len(found.fixed), files + 1
    except ModuleNotFoundError:
        refusal.refuse(_NAME, f"{'--fix' if write else '--diff-only'} {fixes.NEEDS}")
    _note(f"{'fixed' if write else 'would fix'} {counted(fixed, 'finding')} in {counted(files, 'file')}")
    if left:
        _note(f"left {counted(left, 'finding')} alone: no rewrite is sure to keep what the code does")
    return bool(files) and write


def _note(words: str) -> None:
    typer.echo(f"memleak {_NAME}: {words}", err=True)


def _show(request: _Request, result: ScanResult) -> None:
    """Print or write the report; warnings go to stderr, so that what is printed can be read by programs."""
    from pytest_memleak.reports import scan_text

    _warn(result)
    text = _rendered(request, result)
    if request.output:
        try:
            Path(request.output).write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            refusal.refuse(_NAME, f"--output {request.output}: {error.strerror or error}")
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
        _note(f"warning: {warning.path}: {warning.reason}")


def _leave(result: ScanResult) -> NoReturn:
    """Findings outweigh what could not be read."""
    if result.findings:
        raise typer.Exit(refusal.LEAK)
    raise typer.Exit(refusal.USAGE if result.warnings else refusal.CLEAN)
