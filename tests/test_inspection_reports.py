"""The objects of a live process as text."""

from __future__ import annotations

import pytest

from pytest_memleak.cli.track_objects import line
from pytest_memleak.inspection.act import Progress
from pytest_memleak.model import Outcome
from pytest_memleak.model_objects import Held, ObjectsResult, TypeGrowth
from pytest_memleak.reports import objects_text

SESSION = TypeGrowth(
    name="shop.sessions.Session",
    counts=(809, 1_100, 1_420, 1_722),
    leaks=True,
    held=Held(path=("shop.sessions.SESSIONS (dict)", "shop.sessions.Session"), site="/srv/shop/sessions.py:12"),
)
DICT = TypeGrowth(name="dict", counts=(8_572, 8_600, 8_590, 8_593), leaks=False)
SAME = TypeGrowth(name="module", counts=(9, 9, 9, 9), leaks=False)

RESULT = ObjectsResult(
    target="4711 (uvicorn shop.main:app)",
    way="gdb",
    outcome=Outcome.LEAK,
    why="1 type grew in each of 3 intervals, shop.sessions.Session by 913",
    types=(SESSION, DICT, SAME),
    seconds=30.2,
    times_s=(0.0, 10.1, 20.1, 30.2),
    pauses_s=(0.012, 0.014, 0.011, 0.013),
    look_s=0.05,
    attached_s=(0.06, 0.05, 0.07, 0.05, 0.06),
    python="3.12.1",
    objects=(50_000, 50_400, 50_800, 51_200),
)

TEXT = """\
LEAK DETECTED in 4711 (uvicorn shop.main:app)
  1 type grew in each of 3 intervals, shop.sessions.Session by 913

  type                     current   baseline      delta   growth %
  shop.sessions.Session      1,722        809       +913     +112.9  LEAK
  dict                       8,593      8,572        +21       +0.2

shop.sessions.Session
  held  by shop.sessions.SESSIONS (dict) → shop.sessions.Session
  where /srv/shop/sessions.py:12

  read  CPython 3.12.1, 4 readings in 30.2 s by gdb, 51,200 objects
  pause 14 ms at most for a count, 50 ms to look for holders, 70 ms at most
        while gdb was attached (5 times)
  next  memleak scan-code shows which lines may keep them, a test with
        @pytest.mark.no_leak which line does"""


def test_the_whole_report() -> None:
    assert objects_text.explain(RESULT, width=80, top=20) == TEXT


@pytest.mark.parametrize("width", [80, 120])
def test_long_names_are_cut_on_the_left_and_no_line_is_too_wide(width: int) -> None:
    long = TypeGrowth(name="a_package." + "of_many_modules." * 9 + "Item", counts=(1, 40, 90), leaks=True)
    result = ObjectsResult(
        target="1 (x)", way="gdb", outcome=Outcome.LEAK, why="it grew", types=(long,), seconds=2.0,
        times_s=(0.0, 1.0, 2.0),
    )  # fmt: skip
    lines = objects_text.explain(result, width=width, top=20).splitlines()
    assert max(map(len, lines)) <= width
    row = next(found for found in lines if found.endswith("LEAK") and found.startswith("  "))
    assert "Item" in row


def test_what_the_table_has_no_room_for_is_counted() -> None:
    types = tuple(TypeGrowth(name=f"shop.T{at}", counts=(0, 50, 100 + at), leaks=True) for at in range(5))
    result = ObjectsResult(
        target="1 (x)", way="gdb", outcome=Outcome.LEAK, why="they grew", types=types, seconds=2.0,
        times_s=(0.0, 1.0, 2.0),
    )  # fmt: skip
    assert "and 3 more that leak" in objects_text.explain(result, width=80, top=2)


def test_json_leaves_out_the_types_that_kept_their_count() -> None:
    values = RESULT.to_dict()
    assert [(one["name"], one["delta"]) for one in values["types"]] == [("shop.sessions.Session", 913), ("dict", 21)]
    assert values["version"] == 1


def test_the_line_of_an_inspection_that_goes_on() -> None:
    progress = Progress(elapsed_s=12.0, wanted_s=30.0, objects=50_400, top=SESSION)
    assert line(progress) == "0:12 of 0:30 · 50,400 objects · shop.sessions.Session +913"
