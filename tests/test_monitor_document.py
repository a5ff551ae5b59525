"""What the monitor answers is what its OpenAPI document says, at the bounds of each parameter and beyond them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("jsonschema")

import jsonschema
import pydantic
from fastapi import FastAPI
from monitor_support import PREFIX, ask, scope_of
from waiting import until

from pytest_memleak.monitor import costly, setup_memory_monitoring, teardown

pytestmark = pytest.mark.skipif(
    pydantic.VERSION.startswith("1."), reason="the schemas of pydantic 1 do not say that a field may be null"
)

OPERATIONS = {
    "GET /snapshot", "POST /tracing", "GET /growth", "POST /growth/baseline", "GET /history", "GET /gc-stats",
    "POST /gc-collect", "GET /leaks", "GET /process-info",
}  # fmt: skip

STRANGE = ("", "x", "nan", "inf", "-1", "1e400", "0x1", "1.5", "null", "[]", "true", "%00", "%ff", "9" * 400)


class Asked:
    """An app with the monitor, and what its document says."""

    def __init__(self) -> None:
        self.app = FastAPI()
        monitor = setup_memory_monitoring(self.app, interval_s=60, token="secret")
        ask(self.app, scope_of("/none"))
        # CPython can crash where tracing ends while another thread allocates (python/cpython#128679).
        until(lambda: len(monitor.ring), "the first reading, and what is loaded before it")
        self.document = self.app.openapi()
        self.operations = {
            f"{method.upper()} {path.removeprefix(PREFIX)}": operation
            for path, operations in self.document["paths"].items()
            for method, operation in operations.items()
        }

    def ask(self, name: str, query: str = "", body: bytes = b"", token: str = "secret") -> int:
        """The status of a request whose answer is what the document says; a breach raises."""
        method, _, path = name.partition(" ")
        scope = scope_of(
            PREFIX + path, method=method, authorization=f"Bearer {token}", content_type="application/json"
        )  # fmt: skip
        scope["query_string"] = query.encode()
        status, _, answer = ask(self.app, scope, body)
        told = self.operations[name]["responses"]
        assert str(status) in told, (name, query, body, status, answer)
        schema = told[str(status)]["content"]["application/json"]["schema"]
        jsonschema.validate(json.loads(answer), {**schema, "components": self.document["components"]})
        return status

    def bounds(self, name: str) -> Iterator[str]:
        """Queries: each parameter at its bounds, beyond them, and strange."""
        for parameter in self.operations[name].get("parameters", []):
            schema = parameter["schema"]
            ends = [schema[key] for key in ("minimum", "maximum", "exclusiveMinimum") if key in schema]
            values = [str(end + step) for end, step in itertools.product(ends, (-1, 0, 1))]
            for value in [*values, *STRANGE]:
                yield f"{parameter['name']}={value}"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    """With a share of the time that one walk over the heap uses up: what is asked after it is answered at once."""
    monkeypatch.setattr(costly, "_ADVANCE_S", 0.001)
    found = Asked()
    yield found
    teardown(found.app)


def test_all_of_it_is_documented(asked: Asked) -> None:
    assert asked.operations.keys() == OPERATIONS
    assert len(list(asked.bounds("GET /growth"))) > 40


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_the_answers_are_as_documented(asked: Asked, name: str) -> None:
    assert asked.ask(name) == 200
    assert asked.ask(name, token="wrong") == 401
    statuses = {asked.ask(name, query) for query in asked.bounds(name)}
    assert statuses <= {200, 422, 429}
    if asked.operations[name].get("parameters"):
        assert 422 in statuses


@pytest.mark.parametrize(
    "body, status",
    [
        (b"null", 200),
        (b"{}", 200),
        (b'{"seconds": 0}', 200),
        (b'{"seconds": 0.5, "frames": 1}', 200),
        (b'{"seconds": 5, "frames": 1.0}', 200),
        (b'{"frames": 1.5}', 422),
        (b'{"frames": "1"}', 422),
        (b'{"seconds": 600.1}', 422),
        (b'{"seconds": -1}', 422),
        (b'{"seconds": NaN}', 422),
        (b'{"seconds": 1e400}', 422),
        (b'{"seconds": true}', 422),
        (b'{"seconds": "60"}', 422),
        (b'{"frames": true}', 422),
        (b'{"frames": 26}', 422),
        (b'{"frames": 0}', 422),
        (b"[]", 422),
        (b"3", 422),
        (b"{", 422),
        (b"[" * 5_000, 400),
        (b'"\xff"', 400),
        (b"6Y\x70\xed\xa0\x80S\xff", 400),
    ],
)
def test_orders_that_are_and_are_not_as_documented(asked: Asked, body: bytes, status: int) -> None:
    try:
        assert asked.ask("POST /tracing", body=body) == status
    finally:
        asked.ask("POST /tracing", body=b'{"seconds": 0}')
