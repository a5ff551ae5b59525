"""Reference paths are told as the user would write them."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_memleak.diagnosis import retention


class App:
    """Stands for an application: the root of a path."""

    state: Any


def test_what_an_app_keeps_in_its_state_is_told_as_it_is_written() -> None:
    datastructures = pytest.importorskip("starlette.datastructures")
    app = App()
    app.state = datastructures.State()
    app.state.rooms = {"blue": [1]}
    path = retention.path_to(app.state.rooms["blue"], {id(app): "app"})
    assert path.name == "app.state.rooms['blue']"
    assert path.labels == ("app", ".state", ".rooms", "['blue']")


def test_another_dict_of_that_name_is_told_as_it_is() -> None:
    app = App()
    kept = [1]
    vars(app)["_state"] = {"rooms": kept}
    path = retention.path_to(kept, {id(app): "app"})
    assert path.name == "app._state['rooms']"
