"""Where a `with` closes a file for sure: read off the tree of one file, before anything is changed.

A rewrite is planned only where the file stays open exactly as long as it is used: everything that is done with it
is in the same block, and nothing made from it can outlive the block.
"""

from __future__ import annotations

import ast
from typing import Final

from pytest_memleak.model_scan import Finding
from pytest_memleak.scan.module import Function, Module
from pytest_memleak.scan.rewrites import Lift, Wrap, span_of

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

_PURE: Final = frozenset(
    (
        *("json.loads", "tomllib.loads", "tomli.loads", "yaml.safe_load", "pickle.loads", "marshal.loads"),
        *("ast.literal_eval", "ast.parse", "io.StringIO", "io.BytesIO", "textwrap.dedent", "base64.b64encode"),
        *("bytes", "float", "int", "len", "list", "set", "sorted", "str", "tuple"),
    )
)
"""Functions of what was read that neither care whether the file is still open nor take long: `open(p).read()` closes
it before they start, and a `with` around the statement after they have ended."""

_SEE_NAMES: Final = frozenset(("dir", "eval", "exec", "globals", "locals", "vars"))
"""What a name more is seen by."""

_HANDLES: Final = ("f", "file", "handle", "opened")


def plan_with(module: Module, lines: list[str], finding: Finding) -> Wrap | Lift | None:
    """The `with` that a file which is opened at a finding's line would get; None where it is not sure."""
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
    closes = len(wrapped) > 1 and _is_close(wrapped[-1], target.id)
    return Wrap(line=statement.lineno, last_line=_start(wrapped[-1]), closes=closes)


def _is_close(statement: ast.stmt, name: str) -> bool:
    call = statement.value if isinstance(statement, ast.Expr) else None
    if not isinstance(call, ast.Call) or call.args or call.keywords or not isinstance(call.func, ast.Attribute):
        return False
    return call.func.attr == "close" and isinstance(call.func.value, ast.Name) and call.func.value.id == name


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
    if taken & _SEE_NAMES:
        return None
    taken |= _parameters(function) if function else set()
    taken |= set(module.imports) | set(module.classes) | {each.name for each in module.functions}
    name = next((name for name in _HANDLES if name not in taken), None)
    return None if name is None else Lift(line=statement.lineno, call=span_of(call, lines), name=name)


def _comes_first(module: Module, call: ast.Call, statement: ast.stmt) -> bool:
    """Whether nothing else of the statement runs before the call does, and nothing of others after it:
    `open(p).read().split()`, `json.loads(open(p).read())`."""
    node: ast.AST = call
    while (above := module.up[node]) is not statement:
        is_chain = isinstance(above, ast.Attribute | ast.Subscript) and above.value is node
        is_called = isinstance(above, ast.Call) and above.func is node
        is_first = (
            isinstance(above, ast.Call)
            and above.args[:1] == [node]
            and module.dotted(above.func) in _READERS | _PURE
            and all(isinstance(other, ast.Constant | ast.Name) for other in above.args[1:])
            and all(isinstance(word.value, ast.Constant) for word in above.keywords)
        )
        if not (is_chain or is_called or is_first):
            return False
        node = above
    return getattr(statement, "value", None) is node
