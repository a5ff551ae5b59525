"""Rewriting what can be mended for sure, and nothing else of the file: comments, layout and line ends stay.

Each rewrite is judged before it counts: the file must parse, the finding must be gone and no other have come. A
file is replaced in one step or not at all.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import io
import os
import shutil
import tempfile
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from pytest_memleak.model_scan import Finding
from pytest_memleak.scan.module import Module
from pytest_memleak.scan.plans import is_mended, plan
from pytest_memleak.scan.rewrites import Rewrite

NEEDS = "needs libcst: python -m pip install 'pytest-memleak[scan]'"


class FixError(Exception):
    """Why a file cannot be rewritten; the message is a sentence."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """One file as it is and as it would be."""

    path: str
    before: bytes
    after: bytes
    encoding: str
    fixed: tuple[Finding, ...]
    left: tuple[Finding, ...]
    """What no sure rewrite was found for."""

    def diff(self) -> str:
        """The change as a unified diff; empty where there is none."""
        before, after = (side.decode(self.encoding).splitlines(keepends=True) for side in (self.before, self.after))
        lines = difflib.unified_diff(before, after, f"a/{self.path}", f"b/{self.path}")
        return "".join(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in lines)

    def write(self) -> None:
        """Put the new text in the file's place. Raises FixError, and then the file is as it was."""
        try:
            _replace(Path(os.path.realpath(self.path)), self.before, self.after)
        except OSError as error:
            raise FixError(f"{self.path} was left alone: {error.strerror or error}") from error


def fixes(findings: Sequence[Finding], *, bounds: bool) -> Iterator[Fix | FixError]:
    """What can be mended, file by file; a file that cannot be read as it was scanned gives its reason.

    `bounds` allows those that change what a program keeps: `lru_cache(maxsize=…)`, `deque(maxlen=…)`.
    Raises ModuleNotFoundError without libcst.
    """
    import libcst  # noqa: F401  (asked for before any file is)

    by_path: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        by_path[finding.path].append(finding)
    for path, found in sorted(by_path.items()):
        try:
            yield _fix(path, found, bounds=bounds)
        except FixError as error:
            yield error
        except (RecursionError, MemoryError):
            yield FixError(f"{path} was left alone: it is nested too deeply, or too long")


def _fix(path: str, findings: Sequence[Finding], *, bounds: bool) -> Fix:
    """The last finding of a file first: what stands above a change keeps its line."""
    if any(finding.cell is not None for finding in findings):
        return Fix(path=path, before=b"", after=b"", encoding="utf-8", fixed=(), left=tuple(findings))
    before, text, encoding = _read(path)
    state, fixed, left = _State(text), [], []
    for finding in sorted(findings, key=lambda finding: (finding.line, finding.column), reverse=True):
        changed = _mended(state, finding, bounds=bounds)
        if changed is None:
            left.append(finding)
        else:
            state = changed
            fixed.append(finding)
    after = before
    if fixed:
        try:
            after = state.text.encode(encoding)
        except UnicodeEncodeError:
            raise FixError(f"{path} was left alone: its encoding {encoding} cannot write the change") from None
    return Fix(path=path, before=before, after=after, encoding=encoding, fixed=tuple(fixed), left=tuple(left))


def _read(path: str) -> tuple[bytes, str, str]:
    """A file's bytes, text and encoding; `utf-8-sig` keeps a byte order mark."""
    try:
        before = Path(path).read_bytes()
        encoding, _ = tokenize.detect_encoding(io.BytesIO(before).readline)
        text = before.decode(encoding)
        ast.parse(text)
    except OSError as error:
        raise FixError(f"{path} was left alone: {error.strerror or error}") from error
    except (SyntaxError, ValueError, LookupError, RecursionError, MemoryError):
        raise FixError(f"{path} was left alone: it cannot be read as Python") from None
    if text.encode(encoding) != before:
        raise FixError(f"{path} was left alone: it would not be written back as it is in {encoding}")
    return before, text, encoding


class _State:
    """A file on the way, and what is worked out of it once for all its findings."""

    def __init__(self, text: str) -> None:
        self.text = text

    @functools.cached_property
    def lines(self) -> list[str]:
        """As the parser counts them: it ends no line at a form feed."""
        return self.text.replace("\r\n", "\n").replace("\r", "\n").split("\n")

    @functools.cached_property
    def module(self) -> Module:
        """Raises SyntaxError and ValueError."""
        return Module(ast.parse(self.text))

    @functools.cached_property
    def suspects(self) -> Counter[str]:
        """How many places of each code the rules see in the file by itself."""
        from pytest_memleak.scan.registry import RULES

        return Counter(rule.CODE for rule in RULES for _ in rule.find(self.module))


def _mended(state: _State, finding: Finding, *, bounds: bool) -> _State | None:
    """The file without a finding; None where it has to stay as it is."""
    lines = state.lines
    is_there = finding.line <= len(lines) and lines[finding.line - 1].strip().startswith(finding.source.strip()[:40])
    if not is_there or not is_mended(finding.pattern, bounds=bounds):
        return None
    rewrite = plan(state.module, lines, finding, bounds=bounds)
    text = None if rewrite is None else _rewritten(state.text, rewrite)
    if text is None or text == state.text:
        return None
    changed = _State(text)
    try:
        was, now = state.suspects, changed.suspects
    except (SyntaxError, ValueError, RecursionError):
        return None
    return changed if now[finding.code] < was[finding.code] and now <= was else None


def _rewritten(text: str, rewrite: Rewrite) -> str | None:
    import libcst
    from libcst.metadata import MetadataWrapper

    from pytest_memleak.scan.surgery import Surgery

    try:
        tree = libcst.parse_module(text)
        if tree.code != text:
            return None
        surgery = Surgery(rewrite)
        changed = MetadataWrapper(tree).visit(surgery).code
    except (libcst.ParserSyntaxError, libcst.CSTValidationError, RecursionError):
        return None
    return changed if surgery.is_done else None


def _replace(path: Path, before: bytes, after: bytes) -> None:
    """Write beside the file and move over it: a reader sees the old or the new, whatever happens."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".memleak")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(after)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(path, name)
        _refuse_changed(path, before)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _refuse_changed(path: Path, before: bytes) -> None:
    if path.read_bytes() != before:
        raise OSError("it has changed meanwhile")
