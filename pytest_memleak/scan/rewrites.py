"""What can be rewritten for sure: read off the tree of one file, before anything is changed.

A rewrite is planned only where the file stays open exactly as long as it is used: everything that is done with it
is in the same block, and nothing made from it can outlive the block.
"""

from __future__ import annotations

import ast
import dataclasses
from typing import Final, TypeAlias

from pytest_memleak.model_scan import Finding
from pytest_memleak.scan.module import Function, Module

CACHE_ENTRIES: Final = 1024
"""What a bounded `lru_cache` keeps: eight times the standard library's default, which suits a service."""

DEQUE_ENTRIES: Final = 1000

_OPENS: Final = frozenset(
    ("open", "io.open", "gzip.open", "bz2.open", "lzma.open", "codecs.open", "pathlib.Path().open", "os.fdopen")
)
_METHODS: Final = frozenset(
    ("read", "readline", "readlines", "write", "writelines", "seek", "tell", "flush", "truncate", "close")
)
"""What can be called on a file without anything that outlives it coming back."""

_READERS: Final = frozenset(
    (
        *("json.load", "json.dump", "pickle.load", "pickle.dump", "tomllib.load", "tomli.load", "yaml.safe_load"),
        *("yaml.dump", "yaml.safe_dump", "marshal.load", "marshal.dump", "plistlib.load", "plistlib.dump"),
        *("shutil.copyfileobj", "list", "tuple", "set", "sorted", "sum", "print"),
    )
)
"""Functions that are done with a file when they return."""

_ITERATED: Final = frozenset(("csv.reader", "csv.DictReader", "enumerate"))
"""What reads a file as it goes: done when the loop over it is."""

_HANDLES: Final = ("f", "file", "handle", "opened")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Where an expression stands; lines from 1, columns from 0 in characters."""

    line: int
    column: int
    end_line: int
    end_column: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wrap:
    """`f = open(…)` and what follows up to its last use, into one `with`."""

    line: int
    last_line: int
    """Where the last statement that uses it starts."""

    closes: bool
    """Whether that one is `f.close()`, which the `with` does."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Lift:
    """`x = open(…).read()`: the call goes into a `with` around its statement."""

    line: int
    call: Span
    name: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """An expression that gets a bound: `functools.cache`, `lru_cache(maxsize=None)` or `deque()`."""

    expression: Span
    to: str
    """What it becomes, as code."""

    imports: bool = False
    """Whether `from functools import cache` has to bring `lru_cache` too."""


Rewrite: TypeAlias = Wrap | Lift | Bound


def plan(module: Module, lines: list[str], finding: Finding, *, bounds: bool) -> Rewrite | None:
    """What would mend a finding for sure; None where nothing would."""
    if finding.pattern == "file_handle":
        return _file(module, lines, finding)
    if bounds and finding.pattern in ("unbounded_cache", "global_accumulation"):
        return _cache(module, lines, finding) or _deque(module, lines, finding)
    return None


def _span(node: ast.expr, lines: list[str]) -> Span:
    """The tree counts bytes, everybody else characters."""
    end_line, end_column = node.end_lineno or node.lineno, node.end_col_offset or 0
    return Span(
        line=node.lineno,
        column=_characters(lines[node.lineno - 1], node.col_offset),
        end_line=end_line,
        end_column=_characters(lines[end_line - 1], end_column),
    )


def _characters(line: str, count: int) -> int:
    return len(line.encode()[:count].decode(errors="ignore"))


# --- files


def _file(module: Module, lines: list[str], finding: Finding) -> Rewrite | None:
    calls = [call for call in module.calls if call.lineno == finding.line and _opens(module, call)]
    if len(calls) > 1:
        calls = [call for call in calls if call.col_offset + 1 == finding.column]
    if len(calls) != 1:
        return None
    (call,) = calls
    statement = module.statement(call)
    block = _block(module, statement)
    if block is None or isinstance(module.scope(call), ast.ClassDef | ast.Lambda) or _pauses([statement]):
        return None
    if isinstance(statement, ast.Assign) and statement.value is call:
        return _wrap(module, statement, block)
    return _lift(module, statement, call, lines)


def _opens(module: Module, call: ast.Call) -> bool:
    name = module.dotted(call.func)
    return name in _OPENS and not (isinstance(call.func, ast.Name) and name == "open" and not _is_open(module, call))


def _is_open(module: Module, call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and module.is_builtin(call.func)


def _block(module: Module, statement: ast.stmt) -> list[ast.stmt] | None:
    """The list of statements that one stands in."""
    above = module.up[statement]
    for name in ("body", "orelse", "finalbody"):
        block = getattr(above, name, None)
        if isinstance(block, list) and statement in block:
            return block
    return None


def _pauses(statements: list[ast.stmt]) -> bool:
    """Whether any statement yields: a `with` around it would stay open as long as the caller likes."""
    return any(isinstance(node, ast.Yield | ast.YieldFrom) for each in statements for node in ast.walk(each))


def _wrap(module: Module, statement: ast.Assign, block: list[ast.stmt]) -> Wrap | None:
    target = statement.targets[0]
    function = module.function(statement)
    if len(statement.targets) != 1 or not isinstance(target, ast.Name) or function is None:
        return None
    if module.owner(target, target.id) is not function:
        return None
    first = last = block.index(statement)
    for use in module.uses(function, target.id):
        if use is target:
            continue
        index = _index(module, use, block)
        if index <= first or not _is_over(module, use, function):
            return None
        last = max(last, index)
    wrapped = block[first + 1 : last + 1]
    if not wrapped or _pauses(wrapped) or target.id in _parameters(function):
        return None
    closes = len(wrapped) > 1 and ast.unparse(wrapped[-1]) == f"{target.id}.close()"
    return Wrap(line=statement.lineno, last_line=_start(wrapped[-1]), closes=closes)


def _parameters(function: Function) -> set[str]:
    return {node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)}


def _start(statement: ast.stmt) -> int:
    """Where a statement starts, with its decorators."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return min([statement.lineno, *(decorator.lineno for decorator in statement.decorator_list)])
    return statement.lineno


def _index(module: Module, node: ast.AST, block: list[ast.stmt]) -> int:
    """Which statement of a block a node is in; -1 for none."""
    for above in module.above(node):
        if isinstance(above, ast.stmt) and above in block:
            return block.index(above)
    return -1


def _is_over(module: Module, use: ast.expr, function: Function | None) -> bool:
    """Whether a file is no longer needed when the statement around one use of it has ended."""
    if module.scope(use) is not (function or module.tree):
        return False
    above = module.up[use]
    if isinstance(above, ast.Attribute):
        call = module.up[above]
        return above.attr in _METHODS and isinstance(call, ast.Call) and call.func is above
    if isinstance(above, ast.keyword):
        above = module.up[above]
        return isinstance(above, ast.Call) and module.dotted(above.func) in _READERS
    if isinstance(above, ast.Call) and use in above.args:
        name = module.dotted(above.func)
        return name in _READERS or (name in _ITERATED and _is_iterated(module, above))
    return _is_iterated(module, use)


def _is_iterated(module: Module, node: ast.expr) -> bool:
    """Whether a loop, or a comprehension that is no generator, runs over an expression."""
    above = module.up[node]
    if isinstance(above, ast.comprehension):
        return isinstance(module.up[above], ast.ListComp | ast.SetComp | ast.DictComp)
    return isinstance(above, ast.For) and above.iter is node


def _lift(module: Module, statement: ast.stmt, call: ast.Call, lines: list[str]) -> Lift | None:
    function = module.function(call)
    if not isinstance(statement, ast.Assign | ast.AnnAssign | ast.Expr | ast.Return):
        return None
    if not _is_over(module, call, function) or not _comes_first(module, call, statement):
        return None
    taken = {node.id for node in ast.walk(function or module.tree) if isinstance(node, ast.Name)}
    taken |= _parameters(function) if function else set()
    taken |= set(module.imports) | set(module.classes) | {each.name for each in module.functions}
    name = next((name for name in _HANDLES if name not in taken), None)
    return None if name is None else Lift(line=statement.lineno, call=_span(call, lines), name=name)


def _comes_first(module: Module, call: ast.Call, statement: ast.stmt) -> bool:
    """Whether nothing of the statement runs before the call does: `open(p).read().split()`, `json.load(open(p))`."""
    node: ast.AST = call
    while (above := module.up[node]) is not statement:
        is_chain = isinstance(above, ast.Attribute | ast.Subscript) and above.value is node
        is_called = isinstance(above, ast.Call) and above.func is node
        is_first = isinstance(above, ast.Call) and above.args[:1] == [node] and bool(module.dotted(above.func))
        if not (is_chain or is_called or is_first):
            return False
        node = above
    return getattr(statement, "value", None) is node


# --- bounds


def _cache(module: Module, lines: list[str], finding: Finding) -> Bound | None:
    for function in module.functions:
        for decorator in function.decorator_list:
            if finding.line not in (decorator.lineno, function.lineno):
                continue
            called = decorator.func if isinstance(decorator, ast.Call) else decorator
            name = module.dotted(called)
            span = _span(decorator, lines)
            if name == "functools.cache" and called is decorator:
                return _cache_bound(module, decorator, span)
            if name == "functools.lru_cache" and isinstance(decorator, ast.Call):
                return _lru_bound(decorator, span)
    return None


def _cache_bound(module: Module, decorator: ast.expr, span: Span) -> Bound | None:
    if isinstance(decorator, ast.Attribute):
        written = ast.unparse(decorator.value)
        return Bound(expression=span, to=f"{written}.lru_cache(maxsize={CACHE_ENTRIES})")
    known = module.imports.get("lru_cache", "functools.lru_cache")
    others = module.names.get("lru_cache", [])
    is_free = "lru_cache" in module.imports or not others
    if not isinstance(decorator, ast.Name) or decorator.id != "cache" or known != "functools.lru_cache" or not is_free:
        return None
    needed = "lru_cache" not in module.imports
    return Bound(expression=span, to=f"lru_cache(maxsize={CACHE_ENTRIES})", imports=needed)


def _lru_bound(decorator: ast.Call, span: Span) -> Bound | None:
    written = ast.unparse(decorator.func)
    rest = [f"{each.arg}={ast.unparse(each.value)}" for each in decorator.keywords if each.arg not in ("maxsize", None)]
    sizes = [each.value for each in decorator.keywords if each.arg == "maxsize"]
    sizes += decorator.args[:1]
    if len(sizes) != 1 or len(decorator.args) > 1 or not _is_none(sizes[0]):
        return None
    return Bound(expression=span, to=f"{written}({', '.join([f'maxsize={CACHE_ENTRIES}', *rest])})")


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _deque(module: Module, lines: list[str], finding: Finding) -> Bound | None:
    """The one `deque()` that the finding's holder is assigned."""
    name = finding.holder.rpartition(".")[2]
    found = []
    for call in module.calls:
        statement = module.up[call]
        if module.dotted(call.func) != "collections.deque" or call.keywords or len(call.args) > 1:
            continue
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target = statement.targets[0]
        elif isinstance(statement, ast.AnnAssign):
            target = statement.target
        else:
            continue
        if name and _named(module, target, finding) == name:
            found.append(call)
    if len(found) != 1:
        return None
    (call,) = found
    start = [ast.unparse(argument) for argument in call.args]
    code = f"{ast.unparse(call.func)}({', '.join([*start, f'maxlen={DEQUE_ENTRIES}'])})"
    return Bound(expression=_span(call, lines), to=code)


def _named(module: Module, target: ast.expr, finding: Finding) -> str:
    """The name of a module's global, or of an attribute of the class that the holder names."""
    if isinstance(target, ast.Name):
        return target.id if module.scope(target) is module.tree else ""
    if isinstance(target, ast.Attribute) and module.dotted(target.value) == "self":
        owner = module.class_of(target)
        parts = finding.holder.split(".")
        return target.attr if owner is not None and (len(parts) < 2 or parts[-2] in (owner.name, "self")) else ""
    return ""
