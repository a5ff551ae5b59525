"""OpenAPI documents: which operations they have, and what is sent to them."""

from __future__ import annotations

import random
from collections import ChainMap
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_memleak.workloads.openapi import OpenApiError, Operation, Request, operations, request_for, skipped
from pytest_memleak.workloads.schema_strings import from_pattern
from pytest_memleak.workloads.schema_values import Source, value_for

MANY = 60
"""So many requests see both sides of every coin that is thrown: 2**-60."""


def document(paths: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {"openapi": "3.1.0", "info": {"title": "Test", "version": "1"}, "paths": paths, **rest}


def only(paths: dict[str, Any], **rest: Any) -> Operation:
    """The one operation of a document."""
    (found,) = operations(document(paths, **rest))
    return found


def requests(operation: Operation, count: int = MANY) -> list[Request]:
    return [request_for(operation, number, random.Random(number)) for number in range(1, count + 1)]


def values(schema: Any, count: int = MANY, **rest: Any) -> list[Any]:
    return [
        value_for(schema, Source(document=rest, number=number, rng=random.Random(number)), "name")
        for number in range(1, count + 1)
    ]


def parameter(name: str, place: str, schema: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {"name": name, "in": place, "schema": schema, **rest}


def test_a_path_is_filled_and_quoted_and_a_string_is_new_each_time() -> None:
    item = {"parameters": [parameter("user", "path", {"type": "string"}, required=True)], "get": {}}
    made = requests(only({"/users/{user}": item}))
    assert made[6] == Request(method="GET", path="/users/user%207", query={}, headers={})
    assert len({request.path for request in made}) == MANY


def test_an_operation_s_parameter_wins_over_the_path_s() -> None:
    told = {
        "parameters": [parameter("n", "query", {"const": 1}, required=True), parameter("m", "query", {"const": 2})],
        "get": {"parameters": [parameter("n", "query", {"const": 3}, required=True)]},
    }
    assert {request.query["n"] for request in requests(only({"/": told}))} == {"3"}
    assert {"m" in request.query for request in requests(only({"/": told}))} == {True, False}


def test_headers_and_cookies_are_sent_and_those_that_openapi_ignores_are_not() -> None:
    told = [
        parameter("X-Tenant", "header", {"const": "ä\n漢"}, required=True),
        parameter("Accept", "header", {"const": "text/html"}, required=True),
        parameter("session", "cookie", {"const": "a b"}, required=True),
        parameter("deep", "query", {}, required=True, content={"application/json": {"schema": {"const": [1]}}}),
        parameter("tags", "query", {"const": ["a", True]}, required=True),
    ]
    del told[3]["schema"]
    made = requests(only({"/": {"get": {"parameters": told}}}), 1)[0]
    assert made.headers == {"X-Tenant": "ä ?", "Cookie": "session=a%20b"}
    assert made.query == {"deep": "[1]", "tags": ["a", "true"]}


def test_an_author_s_example_is_used_half_of_the_time() -> None:
    told = parameter("user", "path", {"type": "string"}, required=True, examples={"a": {"value": "ada"}})
    paths = [request.path for request in requests(only({"/{user}": {"get": {"parameters": [told]}}}), 400)]
    assert 140 <= paths.count("/ada") <= 260  # six standard deviations of a fair coin


def test_references_are_followed_also_where_they_go_round() -> None:
    node = {
        "type": "object",
        "required": ["name", "children"],
        "properties": {
            "name": {"type": "string"},
            "children": {"type": "array", "items": {"$ref": "#/components/schemas/Node"}},
            "parent": {"anyOf": [{"$ref": "#/components/schemas/Node"}, {"type": "null"}]},
        },
    }
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Node"}}}}
    operation = only(
        {"/": {"post": {"requestBody": {"$ref": "#/components/requestBodies/Node"}}}},
        components={"schemas": {"Node": node}, "requestBodies": {"Node": body}},
    )
    made = requests(operation)
    assert all(isinstance(request.json["children"], list) for request in made)
    assert any(request.json["children"] for request in made)


def test_a_schema_that_demands_itself_without_end_is_ended() -> None:
    endless = {"type": "object", "required": ["next"], "properties": {"next": {"$ref": "#/endless"}}}
    assert values({"$ref": "#/endless"}, 3, endless=endless)


def test_a_form_s_fields_are_texts() -> None:
    fields = {"type": "object", "required": ["n", "on"], "properties": {"n": {"const": 5}, "on": {"const": True}}}
    body = {"content": {"application/x-www-form-urlencoded": {"schema": fields}}, "required": True}
    made = requests(only({"/": {"post": {"requestBody": body}}}), 1)[0]
    assert (made.form, made.json) == ({"n": "5", "on": "true"}, None)


def test_what_cannot_be_called_is_told_with_its_reason() -> None:
    upload = {"content": {"multipart/form-data": {"schema": {}}}, "required": True}
    nowhere = {"content": {"application/json": {"schema": {"items": {"$ref": "#/components/schemas/Gone"}}}}}
    told = document(
        {
            "/": {"get": {"deprecated": True}, "trace": {}},
            "/upload": {"post": {"requestBody": upload}, "put": {"requestBody": {**upload, "required": False}}},
            "/gone": {"post": {"requestBody": nowhere}},
            "/secret": {"get": {"security": [{"Bearer": []}]}, "head": {"security": [{}, {"Bearer": []}]}},
            "/broken": {"get": {"parameters": [{"in": "query"}]}},
        }
    )
    assert [operation.name for operation in operations(told)] == ["GET /", "PUT /upload", "HEAD /secret"]
    assert skipped(told) == (
        "TRACE /: servers answer TRACE by themselves",
        "POST /upload: needs a body of multipart/form-data",
        "POST /gone: #/components/schemas/Gone leads nowhere",
        "GET /secret: needs credentials (Bearer)",
        "GET /broken: its description is not what OpenAPI describes an operation with",
    )
    assert "GET /secret" in [operation.name for operation in operations(told, with_credentials=True)]


@pytest.mark.parametrize(
    "told, message",
    [
        ([], "a JSON object"),
        ({}, "without `openapi`"),
        ({"swagger": "2.0"}, "Swagger 2.0"),
        ({"openapi": "4.0.0"}, "OpenAPI 4.0.0"),
        ({"openapi": "3.0.0", "paths": []}, "`paths` are not an object"),
    ],
)
def test_a_document_that_is_none_is_told_in_one_sentence(told: Any, message: str) -> None:
    with pytest.raises(OpenApiError, match=message):
        operations(told)


@pytest.mark.parametrize(
    "pattern, number, text",
    [
        (r"^\d{5}$", 42, "00042"),
        (r"^[A-Z]{2}-\d{2,3}$", 1, "AA-001"),
        (r"^[a-c_]+\.$", 5, "aaaaaabb."),
        (r"^x?[^a-y]$", 0, "xz"),
        (r"^(a|b)$", 1, None),
        (r"^\p{L}+$", 1, None),
    ],
)
def test_a_simple_pattern_is_followed(pattern: str, number: int, text: str | None) -> None:
    assert from_pattern(pattern, number) == text


def test_every_format_has_a_new_text_for_each_number() -> None:
    for kind in ("uuid", "date", "date-time", "email", "uri", "ipv4", "byte", "time", "hostname", "none of them"):
        made = values({"type": "string", "format": kind})
        assert len(set(made)) == MANY, kind
    assert values({"type": "string", "format": "date"})[0] == "2000-01-02"


def test_integers_are_mostly_small_and_sometimes_the_request_s_number() -> None:
    made = values({"type": "integer"}, 400)
    small = sum(1 <= value <= 10 for value in made)
    assert 240 <= small <= 360  # three quarters, six standard deviations
    assert len(set(made)) > 50


@pytest.mark.parametrize(
    "schema, allowed",
    [
        ({"type": ["integer", "null"], "enum": [1, None]}, [1, None]),
        ({"type": "integer", "nullable": True, "minimum": 3, "maximum": 3}, [3, None]),
        ({"anyOf": [{"const": 1}, {"type": "null"}]}, [1, None]),
        ({"oneOf": [{"const": "a"}, {"const": "b"}]}, ["a", "b"]),
        ({"type": "integer", "minimum": 3, "exclusiveMinimum": True, "maximum": 5}, [4, 5]),
        ({"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5}, [4]),
        ({"type": "integer", "multipleOf": 2.5, "minimum": 1, "maximum": 14}, [5, 10]),
        ({"allOf": [{"type": "integer", "minimum": 1}, {"maximum": 2}, {"minimum": 2}]}, [2]),
        ({"type": "array", "items": {"enum": [1, 2]}, "minItems": 2, "uniqueItems": True}, [[1, 2], [2, 1]]),
        ({"type": "array", "prefixItems": [{"const": 1}, {"const": "a"}], "maxItems": 2}, [[1, "a"]]),
        ({"properties": {"a": {"const": 1, "readOnly": True}, "b": {"const": 2}}, "required": ["a", "b"]}, [{"b": 2}]),
        ({"type": "object", "additionalProperties": {"const": 1}, "minProperties": 1}, [{"key 0": 1}]),
        ({"type": "string", "maxLength": 0}, [""]),
    ],
)
def test_a_value_is_one_that_the_schema_allows(schema: dict[str, Any], allowed: list[Any]) -> None:
    made = values(schema)
    assert all(value in allowed for value in made)
    assert all(value in made for value in allowed)


def bounds(name: str, least: int, greatest: int) -> st.SearchStrategy[dict[str, Any]]:
    """A pair of bounds, such as minLength and maxLength, in order; either may be left out."""
    pair = st.tuples(st.integers(least, greatest), st.integers(least, greatest)).map(sorted)
    both = pair.map(lambda limits: {f"min{name}": limits[0], f"max{name}": limits[1]})
    return st.tuples(both, st.sets(st.sampled_from([f"min{name}", f"max{name}"]))).map(
        lambda drawn: {key: value for key, value in drawn[0].items() if key not in drawn[1]}
    )


def typed(kind: str, *constraints: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(*constraints).map(lambda parts: dict(ChainMap({"type": kind}, *parts)))


NUMERIC = (bounds("imum", -50, 50), st.sampled_from([{}, {"nullable": True}]))
LEAVES = st.one_of(
    typed("string", bounds("Length", 0, 30)),
    typed("integer", *NUMERIC),
    typed("number", *NUMERIC),
    st.just({"type": "boolean"}),
    st.integers(2, 7).map(lambda step: {"type": "integer", "multipleOf": step}),
    st.lists(st.integers(), min_size=1).map(lambda choices: {"enum": choices}),
)


def nested(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    objects = st.tuples(st.dictionaries(st.text(max_size=3), inner, max_size=3), st.booleans()).map(
        lambda drawn: {"type": "object", "properties": drawn[0], "required": [*drawn[0]][: len(drawn[0]) * drawn[1]]}
    )
    arrays = st.tuples(typed("array", bounds("Items", 0, 3)), inner).map(lambda drawn: {**drawn[0], "items": drawn[1]})
    return st.one_of(objects, arrays, st.lists(inner, min_size=1, max_size=2).map(lambda options: {"anyOf": options}))


def allows(schema: Mapping[str, Any], value: Any) -> bool:
    """Whether a schema of those drawn here allows a value."""
    if "anyOf" in schema:
        return any(allows(option, value) for option in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    if value is None:
        return schema.get("nullable") is True
    kind = schema["type"]
    if kind == "string":
        return isinstance(value, str) and within(schema, "Length", len(value))
    if kind == "array":
        items = isinstance(value, list) and all(allows(schema["items"], one) for one in value)
        return items and within(schema, "Items", len(value))
    if kind == "object":
        if not isinstance(value, dict):
            return False
        known, required = schema["properties"], set(schema["required"])
        return required <= value.keys() <= known.keys() and all(allows(known[key], one) for key, one in value.items())
    if kind == "boolean":
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int if kind == "integer" else (int, float)):
        return False
    return value % schema.get("multipleOf", value or 1) == 0 and within(schema, "imum", value)


def within(schema: Mapping[str, Any], name: str, size: float) -> bool:
    least, greatest = schema.get(f"min{name}", float("-inf")), schema.get(f"max{name}", float("inf"))
    return bool(least <= size <= greatest)


@given(schema=st.recursive(LEAVES, nested, max_leaves=6), number=st.integers(1, 2**40), seed=st.integers(0, 2**16))
def test_whatever_the_schema_it_allows_the_value(schema: dict[str, Any], number: int, seed: int) -> None:
    value = value_for(schema, Source(document={}, number=number, rng=random.Random(seed)), "name")
    assert allows(schema, value)
