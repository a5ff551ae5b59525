"""From a call that makes what must be closed to the suspect, where nobody closes it."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterable, Iterator

from pytest_memleak.model_scan import Confidence, Driver
from pytest_memleak.scan import attributes, halfway
from pytest_memleak.scan.callees import calls_of_maker, last_name
from pytest_memleak.scan.lifetimes import End, Fate, fate
from pytest_memleak.scan.module import Module
from pytest_memleak.scan.occasions import is_called
from pytest_memleak.scan.parked import parked
from pytest_memleak.scan.store_likely import SURENESS
from pytest_memleak.scan.suspect import Suspect


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A call whose value must be closed."""

    call: ast.Call
    noun: str
    """What it makes, with its article: `a file`."""

    closing: str = "closes it"
    """What should be done in the end, as in `nothing closes it`."""

    confidence: Confidence = Confidence.HIGH
    on_self: bool = True
    """Whether one that is kept in an attribute of an object is worth a word."""

    lasting: bool = False
    """Whether those of its kind are mostly kept for as long as the process."""

    fix: str = ""
    on_success: Confidence | None = None
    """How sure it is a leak that only what raises leaves it open; None where the frame's end closes it then."""

    commits: bool = False
    """Whether `with` of it ends a transaction only."""

    fate: Fate | None = None
    """Where the rule knows better than the code around the call."""

    unless: tuple[str, ...] = ()
    """The facts of other files that clear one that is lost."""

    maker: ast.Call | None = None
    """Where `call` is of a function that makes a new one each time: the call in that function."""


def suspects(module: Module, made: Iterable[Made]) -> Iterator[Suspect]:
    """Those that nobody closes; one per function and variable, one per class and attribute."""
    seen: set[tuple[ast.AST | None, str]] = set()
    for one in _with_callers(module, made):
        end = one.fate or fate(module, one.call)
        if one.commits and end.end is End.CLOSED and halfway.commits_only(module, one.call):
            end = Fate(end=End.LOST, how="is given to `with`, which ends the transaction only,", sure=False)
        if halfway.is_expected_to_fail(module, one.call):
            continue
        if end.end is End.LOST:
            place: tuple[ast.AST | None, str] = (module.scope(one.call), end.name)
            suspect: Suspect | None = _lost(module, one, end)
        elif end.end is End.STORED and one.on_self:
            place = (module.class_of(one.call), end.name)
            suspect = _stored(module, one, end.name)
        elif end.end is End.HANDED and one.fate is None:
            place, suspect = (None, ""), _parked(module, one)
        elif end.end is End.CLOSED and one.fate is None:
            place, suspect = (None, ""), _closed_halfway(module, one)
        else:
            continue
        if suspect is None or (end.name and place in seen):
            continue
        seen.add(place)
        yield suspect


def _with_callers(module: Module, made: Iterable[Made]) -> Iterator[Made]:
    """What is made, and each call of a function of the file that returns a new one."""
    for one in made:
        yield one
        for call in calls_of_maker(module, one.call):
            yield dataclasses.replace(one, call=call, fate=None, maker=one.call)


def written(module: Module, call: ast.Call) -> str:
    """The call in short: `sqlite3.connect(…)`."""
    return f"{module.dotted(call.func) or last_name(call.func)}({'…' if call.args or call.keywords else ''})"


def _lost(module: Module, made: Made, end: Fate) -> Suspect:
    imported = isinstance(module.scope(made.call), ast.Module | ast.ClassDef)
    once = not imported and _is_script(module, made.call)
    what = f"is kept in `{end.name}`" if end.name else end.how
    each = "the import" if imported else "every call"
    return Suspect(
        node=made.call,
        message=f"{made.noun} from `{written(module, made.call)}` {what} and nothing {made.closing}: "
        f"{each} leaves one open",
        driver=Driver.IMPORT if imported or once else Driver.CALL,
        confidence=_how_sure(made, end, once=once),
        fix=made.fix,
        unless=made.unless,
    )


def _parked(module: Module, made: Made) -> Suspect | None:
    found = parked(module, made.call)
    if found is None:
        return None
    growth, kept = found
    return Suspect(
        node=made.call,
        message=f"{made.noun} from `{written(module, made.call)}` is kept in `{growth.store.name}`, which nothing "
        f"empties, and nothing {made.closing} before the process ends: every call leaves one open",
        driver=Driver.CALL,
        confidence=min(_less(made.confidence), kept.confidence, key=SURENESS.index),
        fix=made.fix,
        holder=growth.store.holder,
        unless=kept.unless,
    )


def _how_sure(made: Made, end: Fate, *, once: bool) -> Confidence:
    if end.guessed:
        return Confidence.LOW
    return made.confidence if end.sure and not once else _less(made.confidence)


def _is_script(module: Module, call: ast.Call) -> bool:
    """Whether it stands in a function that the file itself calls, and only while it is run: a script's `main()`."""
    function = module.function(call)
    if function is None:
        return False
    uses = module.names.get(function.name, ())
    return bool(uses) and all(isinstance(module.scope(use), ast.Module) and is_called(module, use) for use in uses)


def _closed_halfway(module: Module, made: Made) -> Suspect | None:
    line = halfway.returns_before(module, made.call)
    if line is not None:
        why, confidence = f"the `return` in line {line} leaves it open", _less(made.confidence)
    elif halfway.closes_after_yield(module, made.call):
        why = "what raises in the `with` block that it is yielded to leaves it open"
        confidence = Confidence.LOW if made.on_success is None else _less(made.confidence)
    elif made.on_success is not None and halfway.closes_on_success_only(module, made.call):
        why, confidence = "what raises before that leaves it open", made.on_success
    else:
        return None
    return Suspect(
        node=made.call,
        message=f"{made.noun} from `{written(module, made.call)}` is closed on one way out only: {why}",
        driver=Driver.CALL,
        confidence=confidence,
        fix=made.fix,
    )


def _stored(module: Module, made: Made, attribute: str) -> Suspect | None:
    owner = module.class_of(made.call)
    if owner is None:
        return None
    end = attributes.stored(module, owner, attribute)
    if end.end is not End.LOST:
        return None
    message = (
        f"{made.noun} from `{written(module, made.call)}` is kept in `self.{attribute}` and nothing "
        f"{made.closing}: every `{owner.name}` leaves one open"
    )
    half = attributes.half_closed(module, owner, attribute)
    if half is not None:
        message += f"; `{owner.name}.{half[0]}()` closes `self.{half[1]}` but not this"
    return Suspect(
        node=made.maker or made.call,
        message=message,
        driver=Driver.INSTANCE,
        confidence=Confidence.LOW if end.guessed or made.lasting else _less(made.confidence),
        fix=made.fix,
        holder=f"{owner.name}.{attribute}",
        unless=attributes.unless(module, owner, attribute),
    )


def _less(confidence: Confidence) -> Confidence:
    return Confidence.MEDIUM if confidence is Confidence.HIGH else Confidence.LOW
