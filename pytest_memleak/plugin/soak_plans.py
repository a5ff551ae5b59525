"""What a test asks of its soak, as a plan: checked before its body runs, and before anything starts."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from pytest_memleak.plugin import apps
from pytest_memleak.plugin.timeouts import timeout_of
from pytest_memleak.settings import SettingError, SoakSettings
from pytest_memleak.slugs import see
from pytest_memleak.soak.plan import Plan, PlanError, checked
from pytest_memleak.units import format_seconds

# The server's start and the load's, the rest, and a diagnosis: seconds that an ordinary one takes around the load.
_AROUND_S: Final = 60.0
# The rest grows with the load, by `soak.run`'s 2 %.
_AROUND_SHARE: Final = 0.02


def plan_of(item: pytest.Item, asked: SoakSettings, fields: Mapping[str, Any] | None = None) -> Plan:
    """The plan of a test's soak in a new folder; `fields` are those of the plan that the test sets itself.

    Raises SettingError for what cannot be, such as a soak that is longer than the test's timeout.
    """
    fields = dict(fields or {})
    need_packages()
    _refuse_timeout(item, asked.duration)
    if not fields.keys() & {"command", "url", "pid"}:
        fields["app"] = asked.app or apps.app_of_test(item)
    plan = Plan(
        duration_s=asked.duration,
        users=asked.users,
        max_mb_per_min=asked.max_mb_per_min,
        locustfile=_found(item, asked.locustfile, "locustfile"),
        openapi=_found(item, fields.pop("openapi", ""), "openapi"),
        folder=str(_new_folder(item)),
        cwd=str(Path.cwd()),
        **fields,
    )
    try:
        return checked(plan)
    except PlanError as error:
        raise SettingError(str(error)) from None


def need_packages() -> None:
    """Raise SettingError when what loads the app or judges the readings is not installed."""
    names = ("numpy", "scipy", "cattrs", "locust")
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        install = "python -m pip install 'pytest-memleak[locust]'"
        raise SettingError(see("missing-extra", f"a soak needs {' and '.join(missing)}: {install}"))


def command_words(command: str | Sequence[str]) -> tuple[str, ...]:
    """A server command as words, from text or from words. Raises SettingError."""
    words = shlex.split(command) if isinstance(command, str) else command
    if not isinstance(words, (list, tuple)) or not words or not all(isinstance(word, str) for word in words):
        raise SettingError(f"command: expects text or a list of words, got {command!r}")
    return tuple(words)


def _refuse_timeout(item: pytest.Item, duration_s: float) -> None:
    limit_s = timeout_of(item)
    needed_s = duration_s * (1 + _AROUND_SHARE) + _AROUND_S
    if limit_s is not None and limit_s < needed_s:
        raise SettingError(
            see(
                "timeout-too-short",
                f"a soak of {format_seconds(duration_s)} takes {format_seconds(needed_s)} in all, and pytest-timeout "
                f"stops the test after {format_seconds(limit_s)}: raise it (@pytest.mark.timeout({needed_s:.0f})), or "
                "shorten the soak (duration, --memleak-soak)",
            )
        )


def _found(item: pytest.Item, spelt: str, name: str) -> str:
    """The absolute path of a file beside the test, or else below the root directory; empty for none."""
    if not spelt:
        return ""
    places = [folder / spelt for folder in (item.path.parent, item.config.rootpath)]
    for place in places:
        if place.is_file():
            return str(place.absolute())
    raise SettingError(f"{name}: {spelt} is neither in {places[0].parent} nor in {places[1].parent}")


def _new_folder(item: pytest.Item) -> Path:
    factory: pytest.TempPathFactory = item._request.getfixturevalue("tmp_path_factory")  # type: ignore[attr-defined]
    # pytest cuts the names of its folders likewise: a path must not grow too long for sockets and Windows.
    name = re.sub(r"\W", "_", item.name)[:30]
    return factory.mktemp(f"soak-{name}", numbered=True)
