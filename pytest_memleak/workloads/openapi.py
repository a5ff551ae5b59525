"""The operations of an OpenAPI 3 document, and requests that call them."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from pytest_memleak.workloads.schema_values import OPTIONAL_SHARE, OpenApiError, Source, resolved, value_for

__all__ = ["FORM", "OpenApiError", "Operation", "Parameter", "Request", "operations", "request_for", "skipped"]

METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch")
FORM: Final = "application/x-www-form-urlencoded"

IGNORED_HEADERS: Final = ("accept", "content-type", "authorization")
"""What OpenAPI tells to ignore where a header parameter has such a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """An operation's parameter: its place is `path`, `query`, `header` or `cookie`."""

    name: str
    place: str
    required: bool
    schema: Any
    examples: tuple[Any, ...] = ()
    is_json: bool = False
    """Whether its text is JSON, as `content` of a parameter says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """An operation's body, JSON or a form."""

    is_form: bool
    schema: Any
    examples: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What can be called: a method and a path with places to fill."""

    method: str
    path: str
    parameters: tuple[Parameter, ...]
    body: Body | None
    document: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The operation's name, such as `GET /items/{item_id}`."""
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request that can be sent: the path is filled and quoted, the query's values are texts."""

    method: str
    path: str
    query: dict[str, str | list[str]]
    headers: dict[str, str]
    json: Any = None
    form: dict[str, str | list[str]] | None = None


def operations(document: Mapping[str, Any], *, with_credentials: bool = False) -> tuple[Operation, ...]:
    """The operations of a document that can be called, in its order; `skipped` tells of the others.

    `with_credentials` says that the caller sends them, so that operations which demand some are called too.
    `servers` are not looked at: the caller knows the host. Raises OpenApiError for a document that is none.
    """
    return tuple(found for found in _looked_at(document, with_credentials) if isinstance(found, Operation))


def skipped(document: Mapping[str, Any], *, with_credentials: bool = False) -> tuple[str, ...]:
    """One line for each operation that cannot be called, with the reason. Raises OpenApiError like `operations`."""
    return tuple(found for found in _looked_at(document, with_credentials) if isinstance(found, str))


def request_for(operation: Operation, number: int, rng: random.Random) -> Request:
    """Make the operation's request of a number; strings, and some integers, are new for each number."""
    source = Source(document=operation.document, number=number, rng=rng)
    path, query, headers, cookies = operation.path, dict[str, str | list[str]](), dict[str, str](), list[str]()
    for parameter in operation.parameters:
        if not parameter.required and rng.random() >= OPTIONAL_SHARE:
            continue
        value = value_for(parameter.schema, source, parameter.name, given=parameter.examples, may_be_null=False)
        if value is None and not parameter.required:
            continue
        if parameter.place == "query":
            query |= _query(parameter, value)
        elif parameter.place == "path":
            # A segment of dots would be taken for a step up, and an empty one makes another path.
            text = _text(value, parameter).strip(".") or "1"
            path = path.replace(f"{{{parameter.name}}}", quote(text, safe=""))
        elif parameter.place == "header":
            headers[parameter.name] = _header(_text(value, parameter))
        else:
            cookies.append(f"{parameter.name}={quote(_text(value, parameter))}")
    if cookies:
        headers["Cookie"] = "; ".join(cookies)
    body = _body(operation.body, source) if operation.body else {}
    return Request(method=operation.method, path=path, query=query, headers=headers, **body)


def _looked_at(document: Any, with_credentials: bool) -> Iterator[Operation | str]:
    """Each operation, or the line that says why not."""
    for path, found in _paths(document).items():
        item = resolved(found, document)
        for method in (*METHODS, "trace"):
            if not isinstance(item, Mapping) or method not in item:
                continue
            name = f"{method.upper()} {path}"
            try:
                yield _operation(method, path, item, document, with_credentials)
            except OpenApiError as error:
                yield f"{name}: {error}"
            except (AttributeError, KeyError, TypeError):
                yield f"{name}: its description is not what OpenAPI describes an operation with"


def _paths(document: Any) -> Mapping[str, Any]:
    if not isinstance(document, Mapping):
        raise OpenApiError("An OpenAPI document is a JSON object, and this is none.")
    version = document.get("openapi")
    if not isinstance(version, str):
        told = f"Swagger {document['swagger']}: convert it" if "swagger" in document else "without `openapi`"
        raise OpenApiError(f"The document is {told}; OpenAPI 3.0 or 3.1 is read.")
    if not version.startswith("3."):
        raise OpenApiError(f"The document is OpenAPI {version}; OpenAPI 3.0 or 3.1 is read.")
    paths = document.get("paths", {})
    if not isinstance(paths, Mapping):
        raise OpenApiError("The document's `paths` are not an object.")
    return paths


def _operation(
    method: str, path: str, item: Mapping[str, Any], document: Mapping[str, Any], with_credentials: bool
) -> Operation:
    """Read an operation; raises OpenApiError with the reason if it cannot be called."""
    told = item[method]
    if method == "trace":
        raise OpenApiError("servers answer TRACE by themselves")
    security = told.get("security", document.get("security", ()))
    if security and not with_credentials and {} not in security:
        raise OpenApiError(f"needs credentials ({', '.join(sorted(security[0]))})")
    _check_references([told, item.get("parameters", ())], document, set())
    listed = [resolved(one, document) for one in (*item.get("parameters", ()), *told.get("parameters", ()))]
    # The later wins: the operation's own over the path's.
    parameters = {(one["name"], one["in"]): _parameter(one, document) for one in listed}
    for name in re.findall(r"\{([^{}]+)\}", path):
        parameters.setdefault((name, "path"), Parameter(name=name, place="path", required=True, schema={}))
    wanted = (one for one in parameters.values() if one.place != "header" or one.name.lower() not in IGNORED_HEADERS)
    body = _read_body(resolved(told.get("requestBody"), document), document)
    return Operation(method=method.upper(), path=path, parameters=tuple(wanted), body=body, document=document)


def _check_references(node: Any, document: Mapping[str, Any], seen: set[str]) -> None:
    """Follow every reference once, so that one that leads nowhere is told now and not in the middle of the load."""
    if isinstance(node, list):
        for value in node:
            _check_references(value, document, seen)
    elif isinstance(node, Mapping):
        reference = node.get("$ref")
        if isinstance(reference, str) and reference not in seen:
            seen.add(reference)
            _check_references(resolved({"$ref": reference}, document), document, seen)
        for key, value in node.items():
            # Answers are not made, and what stands in an example is no reference.
            if key not in ("responses", "callbacks", "example", "examples"):
                _check_references(value, document, seen)


def _parameter(told: Mapping[str, Any], document: Mapping[str, Any]) -> Parameter:
    content = told.get("content") or {}
    inner: Mapping[str, Any] = next(iter(content.values()), {})
    return Parameter(
        name=told["name"],
        place=told["in"],
        required=told.get("required") is True or told["in"] == "path",
        schema=told.get("schema", inner.get("schema", {})),
        examples=_examples(told, document) or _examples(inner, document),
        is_json=bool(content),
    )


def _read_body(told: Any, document: Mapping[str, Any]) -> Body | None:
    if not told:
        return None
    content = told.get("content") or {}
    for media, described in content.items():
        kind = media.partition(";")[0].strip().lower()
        if kind in ("application/json", "*/*", "application/*", FORM) or kind.endswith("+json"):
            examples = _examples(described, document)
            return Body(is_form=kind == FORM, schema=described.get("schema", {}), examples=examples)
    if told.get("required") is True:
        raise OpenApiError(f"needs a body of {' or '.join(content) or 'no known type'}")
    return None


def _examples(told: Mapping[str, Any], document: Mapping[str, Any]) -> tuple[Any, ...]:
    """The examples beside a schema; `examples` is there an object of objects with a `value` each."""
    if "example" in told:
        return (told["example"],)
    examples = told.get("examples")
    named = examples.values() if isinstance(examples, Mapping) else ()
    return tuple(one["value"] for one in (resolved(one, document) for one in named) if "value" in one)


def _query(parameter: Parameter, value: Any) -> dict[str, str | list[str]]:
    if parameter.is_json:
        return {parameter.name: _text(value, parameter)}
    if isinstance(value, Mapping):  # exploded, as a query is unless the document says otherwise
        return {str(key): _text(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return {parameter.name: [_text(inner) for inner in value]}
    return {parameter.name: _text(value)}


def _body(body: Body, source: Source) -> dict[str, Any]:
    value = value_for(body.schema, source, "body", given=body.examples, may_be_null=False)
    if not body.is_form:
        return {"json": value}
    fields = value if isinstance(value, Mapping) else {}
    texts = {
        str(key): [_text(one) for one in inner] if isinstance(inner, list) else _text(inner)
        for key, inner in fields.items()
        if inner is not None
    }
    return {"form": texts}


def _text(value: Any, parameter: Parameter | None = None) -> str:
    if parameter is not None and parameter.is_json:
        return json.dumps(value)
    if isinstance(value, list):
        return ",".join(_text(one) for one in value)
    if isinstance(value, (bool, Mapping)):
        return json.dumps(value)
    return "" if value is None else str(value)


def _header(text: str) -> str:
    """The text without what a header cannot have: line ends, and characters beyond Latin-1."""
    return re.sub(r"[\x00-\x1f\x7f]", " ", text).encode("latin-1", "replace").decode("latin-1").strip()
