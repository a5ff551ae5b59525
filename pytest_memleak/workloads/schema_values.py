"""A value that a JSON schema allows, as OpenAPI 3.0 and 3.1 have it; strings and numbers that are new at every request.

A cache that forgets nothing shows only on inputs it has not met.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final
from urllib.parse import unquote

from pytest_memleak.workloads.schema_strings import from_pattern, text_for

MOST_HOPS: Final = 32
"""References that lead to references: nobody writes three, so more than this is a circle."""

DEEP: Final = 3
"""From this depth on only what must be there is made: twice 2 items of 2 properties of 2 items is a large request."""

BOTTOM: Final = 24
"""Depth at which `null` ends a schema that demands itself without end; far below, Python's stack would."""

GIVEN_SHARE: Final = 0.5
"""How often the author's example is used: half of the requests reach what exists, half bring what is new."""

OPTIONAL_SHARE: Final = 0.5
"""How often a property that may be left out is there: both ways are taken often."""

NULL_SHARE: Final = 0.25
NUMBER_SHARE: Final = 0.25
"""How often an integer is the request's number and not small: a small one is likely the id of something that exists."""

SMALL: Final = 10
"""Small integers are 1 to 10: what a seeded database has, most likely."""

LARGEST: Final = 2**31 - 1
"""The largest integer unless the schema says `int64`: a database's integer column takes no more."""

_LOWER: Final = ("minimum", "minLength", "minItems", "minProperties")
_UPPER: Final = ("maximum", "maxLength", "maxItems", "maxProperties")


class OpenApiError(ValueError):
    """The document is not one, or refers to what is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What values are made from: the document for its references, the request's number, and chance."""

    document: Mapping[str, Any]
    number: int
    rng: random.Random


def resolved(node: Any, document: Mapping[str, Any]) -> Any:
    """Follow `$ref`; what stands beside it wins over what it refers to. Raises OpenApiError."""
    for _ in range(MOST_HOPS):
        reference = node.get("$ref") if isinstance(node, Mapping) else None
        if not isinstance(reference, str):
            return node
        target = _target(reference, document)
        beside = {key: value for key, value in node.items() if key != "$ref"}
        node = {**target, **beside} if isinstance(target, Mapping) else target
    raise OpenApiError("a reference leads back to itself")


def _target(reference: str, document: Mapping[str, Any]) -> Any:
    if not reference.startswith("#"):
        raise OpenApiError(f"{reference} is in another document")
    node: Any = document
    for part in reference[1:].split("/")[1:]:
        key = unquote(part).replace("~1", "/").replace("~0", "~")
        try:
            node = node[int(key)] if isinstance(node, list) else node[key]
        except (LookupError, TypeError, ValueError):
            raise OpenApiError(f"{reference} leads nowhere") from None
    return node


def value_for(
    schema: Any,
    source: Source,
    name: str,
    *,
    given: tuple[Any, ...] = (),
    may_be_null: bool = True,
    depth: int = 0,
) -> Any:
    """Make a value that the schema allows; `given` are examples its author wrote beside the schema.

    `not`, `if`, `dependentSchemas` and `patternProperties` are not looked at. A schema that nothing satisfies
    gives something all the same.
    """
    if depth > BOTTOM:
        return None
    schema = _flat(schema, source, may_be_null, depth)
    given = given or _authored(schema)
    if given and (source.rng.random() < GIVEN_SHARE or _has_hard_pattern(schema)):
        return source.rng.choice(given)
    if "const" in schema:
        return schema["const"]
    if choices := schema.get("enum"):
        return source.rng.choice([choice for choice in choices if choice is not None or may_be_null] or choices)
    kind = _kind(schema, source, may_be_null, depth)
    if kind == "object":
        return _object(schema, source, depth)
    if kind == "array":
        return _array(schema, source, name, depth)
    if kind in ("integer", "number"):
        return _integer(schema, source) if kind == "integer" else _number(schema, source)
    if kind == "boolean":
        return source.rng.random() < 0.5
    return None if kind == "null" else text_for(schema, name, source.number)


def _flat(schema: Any, source: Source, may_be_null: bool, depth: int) -> dict[str, Any]:
    """The schema with its references followed, one of its alternatives chosen and all its parts joined."""
    found = resolved(schema, source.document)
    flat = dict(found) if isinstance(found, Mapping) else {}  # `true` and `false` are schemas too
    if depth > BOTTOM:
        return flat
    for keyword in ("anyOf", "oneOf"):
        options = flat.pop(keyword, None)
        if isinstance(options, list) and options:
            chosen = _chosen(options, source, may_be_null, depth)
            flat = _joined(flat, _flat(chosen, source, may_be_null, depth + 1))
    for part in flat.pop("allOf", ()):
        flat = _joined(flat, _flat(part, source, may_be_null, depth + 1))
    return flat


def _chosen(options: list[Any], source: Source, may_be_null: bool, depth: int) -> Any:
    nulls = [option for option in options if isinstance(option, Mapping) and option.get("type") == "null"]
    others = [option for option in options if option not in nulls]
    if nulls and (not others or (may_be_null and (depth >= DEEP or source.rng.random() < NULL_SHARE))):
        return nulls[0]
    # Deep down, what refers to nothing is what ends.
    ending = [option for option in others if not (isinstance(option, Mapping) and "$ref" in option)]
    return source.rng.choice(ending if depth >= DEEP and ending else others)


def _joined(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The schema that demands what both demand."""
    joined = {**one, **other}
    for key in one.keys() & other.keys():
        if key == "properties":
            joined[key] = {**one[key], **other[key]}
        elif key == "required":
            joined[key] = [*one[key], *other[key]]
        elif key == "enum":
            joined[key] = [choice for choice in one[key] if choice in other[key]]
        elif key in _LOWER:
            joined[key] = max(one[key], other[key])
        elif key in _UPPER:
            joined[key] = min(one[key], other[key])
    return joined


def _authored(schema: Mapping[str, Any]) -> tuple[Any, ...]:
    examples = schema.get("examples")
    found = [*([schema["example"]] if "example" in schema else []), *(examples if isinstance(examples, list) else [])]
    if not found and schema.get("default") is not None:
        found = [schema["default"]]
    return tuple(found)


def _has_hard_pattern(schema: Mapping[str, Any]) -> bool:
    pattern = schema.get("pattern")
    return isinstance(pattern, str) and from_pattern(pattern, 1) is None


def _kind(schema: Mapping[str, Any], source: Source, may_be_null: bool, depth: int) -> str:
    told = schema.get("type")
    kinds = [told] if isinstance(told, str) else list(told) if told else [_inferred(schema)]
    others = [kind for kind in kinds if kind != "null"]
    nullable = "null" in kinds or schema.get("nullable") is True
    if nullable and (not others or (may_be_null and (depth >= DEEP or source.rng.random() < NULL_SHARE))):
        return "null"
    return str(source.rng.choice(others))


def _inferred(schema: Mapping[str, Any]) -> str:
    if schema.keys() & {"properties", "additionalProperties", "required", "minProperties"}:
        return "object"
    if schema.keys() & {"items", "prefixItems", "minItems"}:
        return "array"
    if schema.keys() & {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}:
        return "number"
    return "string"


def _object(schema: Mapping[str, Any], source: Source, depth: int) -> dict[str, Any]:
    properties, required = schema.get("properties", {}), list(schema.get("required", ()))
    # What the server alone writes is not sent, though it be required: of answers.
    sent = [name for name in properties if not _is_read_only(properties[name], source)]
    must = [name for name in dict.fromkeys(required) if name in sent or name not in properties]
    may = [name for name in sent if name not in must]
    kept = [name for name in may if depth < DEEP and source.rng.random() < OPTIONAL_SHARE]
    kept = kept[: max(0, schema.get("maxProperties", math.inf) - len(must))] if "maxProperties" in schema else kept
    lacking = int(schema.get("minProperties", 0)) - len(must) - len(kept)
    kept += [name for name in may if name not in kept][: max(0, lacking)]
    names = [*must, *kept]
    names += [f"key {index}" for index in range(len(names), int(schema.get("minProperties", 0)))]
    rest = schema.get("additionalProperties", {})
    return {name: value_for(properties.get(name, rest), source, name, depth=depth + 1) for name in names}


def _is_read_only(schema: Any, source: Source) -> bool:
    found = resolved(schema, source.document)
    return isinstance(found, Mapping) and found.get("readOnly") is True


def _array(schema: Mapping[str, Any], source: Source, name: str, depth: int) -> list[Any]:
    first = schema.get("prefixItems", [])
    least, most = int(schema.get("minItems", 0)), schema.get("maxItems", math.inf)
    wanted = least if depth >= DEEP else max(least, len(first) or source.rng.randint(1, 2))
    made: list[Any] = []
    for index in range(int(min(wanted, most))):
        item = first[index] if index < len(first) else schema.get("items", {})
        # A set of few may have no third member, so the tries are bounded: 20 miss one of two with 1 in a million.
        for _ in range(20):
            value = value_for(item, source, f"{name} {index}", depth=depth + 1)
            if not schema.get("uniqueItems") or value not in made:
                made.append(value)
                break
    return made


def _range(schema: Mapping[str, Any]) -> tuple[Fraction | None, bool, Fraction | None, bool]:
    """The least and the greatest value, and whether each is itself shut out: told by a flag in 3.0, a number in 3.1."""
    found: list[Any] = []
    for bound, shut, tightest in (("minimum", "exclusiveMinimum", max), ("maximum", "exclusiveMaximum", min)):
        limit, outside = schema.get(bound), schema.get(shut)
        if isinstance(outside, bool) or outside is None:
            found += [None if limit is None else Fraction(str(limit)), outside is True]
        else:
            edge = outside if limit is None else tightest(outside, limit)
            found += [Fraction(str(edge)), edge == outside]
    return found[0], found[1], found[2], found[3]


def _steps(schema: Mapping[str, Any], step: Fraction) -> tuple[int | None, int | None]:
    """The least and the greatest number of steps that the range allows."""
    low, low_shut, high, high_shut = _range(schema)
    least = None if low is None else math.floor(low / step) + 1 if low_shut else math.ceil(low / step)
    greatest = None if high is None else math.ceil(high / step) - 1 if high_shut else math.floor(high / step)
    return least, greatest


def _integer(schema: Mapping[str, Any], source: Source) -> int:
    # The smallest whole number that is a multiple of p/q in lowest terms is p.
    step = Fraction(str(schema.get("multipleOf", 1))).numerator
    least, greatest = _steps(schema, Fraction(step))
    return step * _count(source, least, greatest, wide=schema.get("format") == "int64")


def _count(source: Source, least: int | None, greatest: int | None, *, wide: bool = False) -> int:
    """A whole number in a range: mostly one of the first that are positive, else the request's number."""
    if least is None:
        least = 1 if greatest is None or greatest >= 1 else greatest - SMALL + 1
    top = greatest if greatest is not None else max(least + SMALL, 2**63 - 1 if wide else LARGEST)
    if source.rng.random() < NUMBER_SHARE:
        return least + source.number % max(1, top - least + 1)
    start = max(least, 1) if top >= 1 else least
    return source.rng.randint(start, max(start, min(top, start + SMALL - 1)))


def _number(schema: Mapping[str, Any], source: Source) -> float:
    if "multipleOf" in schema:
        step = Fraction(str(schema["multipleOf"]))
        return float(step * _count(source, *_steps(schema, step)))
    low, _, high, _ = _range(schema)
    share = Fraction(source.rng.randint(1, 99), 100)  # neither end, which may be shut out
    if low is not None and high is not None:
        return float(low + (high - low) * share)
    if high is not None and high < SMALL:
        return float(high - SMALL * share)
    return float((low or 0) + SMALL * share)
