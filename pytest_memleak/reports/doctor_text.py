"""A check-up as text: what works, what does not and for what that matters, and the commands that install it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pytest_memleak.model_doctor import Checkup, Extra, Package, State, Tried
from pytest_memleak.reports.text import wrapped

_STATE_WIDTH: Final = max(len(state.value) for state in State)


def explain(checkup: Checkup, *, width: int) -> str:
    """The whole report, wrapped to `width` columns; its last lines are the commands, or one sentence."""
    lines = [*wrapped(" · ".join(map(_unbroken, checkup.where)), width), ""]
    lines += _table("probes, each tried on something allocated for it", list(map(_of_probe, checkup.probes)), width)
    if checkup.extras:
        lines += _table("extras", list(map(_of_extra, checkup.extras)), width)
    lines += _end(checkup, width)
    return "\n".join(lines)


def _of_probe(probe: Tried) -> tuple[State, str, str]:
    return probe.state, probe.name, _said(probe.state, probe.said, probe.serves)


def _of_extra(extra: Extra) -> tuple[State, str, str]:
    if not extra.packages:
        return extra.state, extra.name, _said(extra.state, "not made for this platform", extra.serves)
    shown = extra.packages if extra.state is State.WORKS else [one for one in extra.packages if not one.fits]
    return (
        extra.state,
        extra.name,
        _said(extra.state, ", ".join(_unbroken(_package(one)) for one in shown), extra.serves),
    )


def _said(state: State, said: str, serves: str) -> str:
    return f"{said}; for: {serves}" if state is State.MISSING else said


def _unbroken(words: str) -> str:
    return words.replace(" ", "\N{NO-BREAK SPACE}")


def _package(package: Package) -> str:
    if package.fits:
        return f"{package.name} {package.version}"
    is_there = f"{package.name} {package.version} is installed" if package.version else f"no {package.name}"
    return f"{is_there}, wanted {package.wanted}" if package.version else is_there


def _table(title: str, rows: list[tuple[State, str, str]], width: int) -> Iterator[str]:
    yield title
    room = max(len(name) for _, name, _ in rows)
    for state, name, said in rows:
        head = f"  {state.value:<{_STATE_WIDTH}}  {name:<{room}}  "
        yield from wrapped(said, width, first=head, rest=" " * len(head))
    yield ""


def _end(checkup: Checkup, width: int) -> Iterator[str]:
    broken = [probe for probe in checkup.probes if probe.state is State.MISSING and not probe.install]
    core = [probe.name for probe in broken if probe.is_core]
    if core:
        yield from wrapped(f"The core does not work here: without {' and '.join(core)} a leak may pass unseen.", width)
    if checkup.install:
        yield "To install what is missing:"
        yield from (f"  {command}" for command in checkup.install)
    elif broken:
        names = " and ".join(probe.name for probe in broken)
        yield from wrapped(f"Nothing is missing that could be installed; for {names} see the reason above.", width)
    else:
        yield "Nothing is missing."
