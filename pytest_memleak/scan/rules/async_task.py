"""MLK007: a task that is started and then lost: nobody keeps, awaits or cancels it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from pytest_memleak.model_scan import Confidence, Driver
from pytest_memleak.scan.callees import last_name
from pytest_memleak.scan.indexed import Function
from pytest_memleak.scan.module import Module, within
from pytest_memleak.scan.suspect import Suspect

CODE: Final = "MLK007"
PATTERN: Final = "async_task"
NOT_REPORTED: Final[tuple[str, ...]] = (
    "a task that is awaited, gathered, returned, yielded, cancelled or given to any call",
    "a task in an attribute, a container or a global",
    "a task of a TaskGroup or a nursery",
    "a task whose coroutine stores asyncio.current_task() itself",
    "a local of a generator such as a lifespan, or of main(), which hold it while they run",
)

_STARTS: Final = frozenset(
    f"{module}.{name}"
    for module in ("asyncio", "asyncio.tasks")
    for name in ("create_task", "ensure_future")
)  # fmt: skip
_LOOPS: Final = frozenset({"get_running_loop", "get_event_loop", "new_event_loop"})

_RUNS: Final = frozenset({"run", "run_forever", "run_until_complete", "serve_forever", "mainloop"})
"""They run the loop itself, so that the frame that calls them holds its locals as long."""

# They return None, and what they are given says nothing about who holds the task.
_ASIDE: Final = frozenset({"add_done_callback", "set_name", "get_name"})

# They call what they are given and drop what it returns.
_CALLERS: Final = frozenset(
    {
        "call_soon", "call_soon_threadsafe", "call_later", "call_at", "add_signal_handler", "add_done_callback",
        "add_callback", "add_listener", "add_event_listener", "subscribe", "connect", "signal", "on", "Timer",
        "register",
    }
)  # fmt: skip

_LOOP_CALLERS: Final = frozenset({"call_soon", "call_soon_threadsafe", "call_later", "call_at", "add_signal_handler"})

# They hand on what the lambda returns.
_COLLECTORS: Final = frozenset({"map", "starmap", "filter", "sorted", "reduce", "field", "defaultdict", "partial"})

_FIX: Final = "keep it until it is done: tasks.add(task); task.add_done_callback(tasks.discard); or asyncio.TaskGroup"
_WHY: Final = "nothing can await or cancel it, and the event loop holds it only weakly"


def find(module: Module) -> Iterator[Suspect]:
    """Every place that starts a task and loses it."""
    for call in module.calls:
        started = _started(module, call)
        if not started:
            if (by_loop := _started_by_loop(module, call)) is not None:
                yield by_loop
            continue
        lost = _lost(module, call)
        if lost is None or _holds_itself(module, call) or _sleeps_on(module, call) or _is_script(module, call):
            continue
        how, confidence = lost
        yield Suspect(
            node=call,
            message=f"the task of {started}({_coroutine(module, call)}) {how}: {_WHY}",
            driver=_driver(module, call),
            confidence=confidence,
            fix=_FIX,
        )


def _started(module: Module, call: ast.Call) -> str:
    """What starts the task, as messages name it; empty where the call starts none."""
    function = call.func
    if isinstance(function, ast.Attribute):
        if function.attr not in ("create_task", "ensure_future"):
            return ""
        name = module.dotted(function)
        if name in _STARTS:
            return name
        if function.attr == "create_task" and _is_loop(module, function.value):
            return name or "loop.create_task"
        return ""
    if isinstance(function, ast.Name):
        name = module.imports.get(function.id, "")
        return name if name in _STARTS and module.dotted(function) == name else ""
    return ""


def _started_by_loop(module: Module, call: ast.Call) -> Suspect | None:
    """The task of `loop.call_soon_threadsafe(asyncio.create_task, work())`: the loop drops what it calls returns."""
    given = [one for one in call.args[:2] if isinstance(one, ast.Name | ast.Attribute)]
    if last_name(call.func) not in _LOOP_CALLERS:
        return None
    for one in given:
        name = module.dotted(one)
        by_loop = isinstance(one, ast.Attribute) and one.attr == "create_task" and _is_loop(module, one.value)
        if name in _STARTS or by_loop:
            return Suspect(
                node=call,
                message=f"the task of {name or 'loop.create_task'}(…) is dropped by the loop that calls it: {_WHY}",
                driver=_driver(module, call),
                confidence=Confidence.HIGH,
                fix=_FIX,
            )
    return None


def _is_loop(module: Module, receiver: ast.expr) -> bool:
    if isinstance(receiver, ast.Call):
        return module.dotted(receiver.func).rpartition(".")[2] in _LOOPS
    if isinstance(receiver, ast.Attribute):
        return receiver.attr.endswith("loop")
    if not isinstance(receiver, ast.Name):
        return False
    if receiver.id.endswith("loop"):
        return True
    value = module.value_of(receiver)
    return isinstance(value, ast.Call) and module.dotted(value.func).rpartition(".")[2] in _LOOPS


def _lost(module: Module, call: ast.Call) -> tuple[str, Confidence] | None:
    """How the task is lost and how sure that is; None where someone has it."""
    node, chained = _chain(module, call)
    if chained and _was_a_task(call):
        return None
    up = module.up
    above = up[node]
    while isinstance(above, ast.IfExp | ast.BoolOp):
        if (isinstance(above, ast.IfExp) and node is above.test) or (
            isinstance(above, ast.BoolOp) and node is not above.values[-1]
        ):
            return None
        node, above = above, up[above]
    if isinstance(above, ast.Expr):
        return "is dropped", Confidence.HIGH
    if isinstance(above, ast.Lambda):
        return _lost_by_lambda(module, above)
    if chained:
        return None
    if isinstance(above, ast.ListComp | ast.SetComp) and node is above.elt and isinstance(up[above], ast.Expr):
        return "is dropped with the list it is in", Confidence.HIGH
    return _lost_in_local(module, above)


def _chain(module: Module, call: ast.Call) -> tuple[ast.expr, bool]:
    """The call, or the chained `.add_done_callback(…)` on it."""
    method = module.up[call]
    if isinstance(method, ast.Attribute) and method.attr in _ASIDE:
        above = module.up[method]
        if isinstance(above, ast.Call) and above.func is method:
            return above, True
    return call, False


def _was_a_task(call: ast.Call) -> bool:
    """Whether `ensure_future` is given what is a task already by its name: then it only hands it back."""
    given = call.args[0] if call.args else None
    name = given.id if isinstance(given, ast.Name) else given.attr if isinstance(given, ast.Attribute) else ""
    return "task" in name.lower() or "fut" in name.lower()


def _lost_by_lambda(module: Module, function: ast.Lambda) -> tuple[str, Confidence] | None:
    above = module.up[function]
    if isinstance(above, ast.keyword):
        if above.arg and above.arg.startswith(("on_", "callback")):
            return "is dropped by what calls the lambda", Confidence.HIGH
        above = module.up[above]
    if not isinstance(above, ast.Call) or above.func is function:
        return None
    name = above.func.attr if isinstance(above.func, ast.Attribute) else getattr(above.func, "id", "")
    if name in _COLLECTORS:
        return None
    if name in _CALLERS or name.startswith("on_"):
        return "is dropped by what calls the lambda", Confidence.HIGH
    return "is returned by a lambda to who may not keep it", Confidence.LOW


def _lost_in_local(module: Module, above: ast.AST) -> tuple[str, Confidence] | None:
    if isinstance(above, ast.Assign) and len(above.targets) == 1:
        target: ast.expr = above.targets[0]
    elif isinstance(above, ast.AnnAssign):
        target = above.target
    else:
        return None
    if not isinstance(target, ast.Name):
        return None
    scope = module.scope(target)
    if not isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    # What is declared global or nonlocal here is no local of this function.
    if target.id not in module.locals_of(scope) or _frame_holds(scope):
        return None
    loads = [use for use in module.uses(scope, target.id) if isinstance(use.ctx, ast.Load)]
    if not all(_is_aside(module, use) for use in loads):
        return None
    if target.id == "_" and loads:
        return None  # `_` is gettext's or a loop's here
    # While the function waits for something else, its frame holds the task: often long enough.
    waits = any(
        (isinstance(node, ast.Await) or (isinstance(node, ast.Call) and last_name(node.func) in _RUNS))
        and node.lineno > above.lineno
        for node in within(scope)
    )
    return f"is only in the local {target.id}, which ends with the function", _sure(unless=waits)


def _sure(*, unless: bool) -> Confidence:
    return Confidence.LOW if unless else Confidence.HIGH


def _is_aside(module: Module, use: ast.Name) -> bool:
    method = module.up[use]
    if not (isinstance(method, ast.Attribute) and method.attr in _ASIDE):
        return False
    call = module.up[method]
    return isinstance(call, ast.Call) and call.func is method


def _frame_holds(scope: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether the function itself lives as long as the task should: a lifespan between its halves, `main()`."""
    return scope.name in ("main", "_main", "amain") or any(
        isinstance(node, ast.Yield | ast.YieldFrom) for node in within(scope)
    )


def _holds_itself(module: Module, call: ast.Call) -> bool:
    """Whether the coroutine asks for its own task, which it does to register it."""
    coroutine = call.args[0] if call.args else None
    if not isinstance(coroutine, ast.Call):
        return False
    name = module.dotted(coroutine.func).rpartition(".")[2]
    asking = [use for use in module.attributes.get("current_task", ()) if isinstance(module.up[use], ast.Call)]
    return any(
        function.name == name
        for use in asking
        for function in module.functions_above(use)
        if _is_kept(module, module.up[use], function)
    )


def _is_kept(module: Module, asked: ast.AST, function: Function) -> bool:
    """Whether what `current_task()` gave is handed to something that may keep it, and not only compared."""
    above = module.up[asked]
    if isinstance(above, ast.Assign) and isinstance(above.targets[0], ast.Name):
        uses = module.uses(function, above.targets[0].id)
        return any(not isinstance(module.up[use], ast.Compare) for use in uses if isinstance(use.ctx, ast.Load))
    return not isinstance(above, ast.Expr | ast.Compare)


def _sleeps_on(module: Module, call: ast.Call) -> bool:
    """Whether the coroutine only sleeps until it is cancelled, `sleep(math.inf)`: the loop's timer holds it."""
    coroutine = call.args[0] if call.args else None
    if not isinstance(coroutine, ast.Call):
        return False
    name = last_name(coroutine.func)
    for use in module.attributes.get("inf", ()):
        sleep = module.up[use]
        function = module.function(use)
        sleeps = isinstance(sleep, ast.Call) and last_name(sleep.func) == "sleep"
        if sleeps and function is not None and function.name == name:
            return True
    return False


def _is_script(module: Module, call: ast.Call) -> bool:
    """Whether it runs once, at module level, where a script starts its only loop."""
    return module.function(call) is None and not isinstance(module.scope(call), ast.Lambda)


def _coroutine(module: Module, call: ast.Call) -> str:
    coroutine = call.args[0] if call.args else None
    if coroutine is None:
        return "…"
    name = module.dotted(coroutine)
    return name if name and len(name) <= 60 else "…"


def _driver(module: Module, call: ast.Call) -> Driver:
    function = module.function(call)
    if function is None:
        return Driver.IMPORT
    return Driver.INSTANCE if function.name == "__init__" else Driver.CALL
