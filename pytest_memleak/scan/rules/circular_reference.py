"""MLK003: objects that refer to each other strongly, made per call, so that only the garbage collector frees them."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from typing import Final, TypeAlias

from pytest_memleak.model_scan import Confidence, Driver
from pytest_memleak.scan import occasions
from pytest_memleak.scan.finalizers import pinned_by
from pytest_memleak.scan.module import Function, Module
from pytest_memleak.scan.store_data import is_of_tests
from pytest_memleak.scan.suspect import Suspect

CODE: Final = "MLK003"
PATTERN: Final = "circular_reference"
NOT_REPORTED: Final[tuple[str, ...]] = (
    "a link one way, or one that is weak: weakref.ref, weakref.proxy, weakref.WeakMethod",
    "a cycle that the file breaks: the attribute is set to None, set anew or deleted",
    "a bound method kept on its own object",
    "objects made once: at module level, in a setup, or in another object's __init__",
    "the neighbours of a linked list (next, prev, left, right): taking one out links the others",
    "an object that is made in no function of the file, unless it makes what refers to it after its __init__",
)

Links: TypeAlias = list[tuple[ast.Attribute, ast.expr]]

# Neighbours in a list or tree are linked anew whenever one is put in or taken out.
_NEIGHBOURS: Final = ("next", "prev", "left", "right", "head", "tail")

_FIX: Final = "make the way back weak: weakref.ref(…), or set it to None when the work is done"
_COST: Final = "only the garbage collector frees them, late and all at once"


def find(module: Module) -> Iterator[Suspect]:
    """Every cycle that the file makes and never breaks, one per function and attribute."""
    yield from _of_finalizers(module)
    for function, links in _by_function(module).items():
        links.sort(key=lambda link: (link[0].lineno, link[0].col_offset))
        for suspect in (
            *_of_itself(module, function, links),
            *_of_two(module, function, links),
            *_of_owner(module, function, links),
        ):
            # What a test makes ends with it, late or not.
            yield dataclasses.replace(suspect, confidence=Confidence.LOW) if is_of_tests(module) else suspect


def _of_finalizers(module: Module) -> Iterator[Suspect]:
    """The finalizers that keep alive what they wait for the end of; these even the garbage collector never frees."""
    for use in (*module.attributes.get("finalize", ()), *module.names.get("finalize", ())):
        call = module.up[use]
        if not isinstance(call, ast.Call) or call.func is not use or module.function(call) is None:
            continue
        what = pinned_by(module, call)
        if what:
            watched = ast.unparse(call.args[0])
            per_object = occasions.is_self(module, call.args[0])
            yield Suspect(
                node=call,
                message=f"weakref.finalize({watched}, …) is given {what}, which refers to {watched}: the list of "
                f"finalizers keeps it alive until the process ends, and the finalizer never runs before",
                driver=Driver.INSTANCE if per_object else Driver.CALL,
                confidence=Confidence.LOW if is_of_tests(module) else Confidence.HIGH,
                fix=f"give it what it needs instead of {watched}: weakref.finalize({watched}, pool.shutdown)",
            )


def _by_function(module: Module) -> dict[Function, Links]:
    found: dict[Function, Links] = {}
    for target, value in occasions.attribute_stores(module):
        if isinstance(value, ast.Call) and not (
            getattr(value.func, "id", "") in module.classes or _is_error_of(value, target.value)
        ):
            continue
        function = module.function(target)
        if function is not None:
            found.setdefault(function, []).append((target, value))
    return found


def _of_itself(module: Module, function: Function, stores: Links) -> Iterator[Suspect]:
    for target, value in stores:
        owner = target.value
        assert isinstance(owner, ast.Name)
        if not isinstance(value, ast.Name) or value.id != owner.id or _is_broken(module, target, function):
            continue
        if not _is_neighbour(target.attr) and _is_per_object(module, function, owner):
            sure = (
                Confidence.MEDIUM if function.name == "__init__" and not _passes(module, function) else Confidence.HIGH
            )
            yield _suspect(module, target, f"{owner.id}.{target.attr} refers to {owner.id} itself", sure)
            return


def _of_two(module: Module, function: Function, stores: Links) -> Iterator[Suspect]:
    links: dict[tuple[str, str], ast.Attribute] = {}
    for target, value in stores:
        if not isinstance(value, ast.Name) or _is_neighbour(target.attr):
            continue
        owner = target.value
        assert isinstance(owner, ast.Name)
        back = links.get((value.id, owner.id))
        links.setdefault((owner.id, value.id), target)
        if back is None or owner.id == value.id:
            continue
        if _is_broken(module, target, function) or _is_broken(module, back, function):
            continue
        if _is_per_object(module, function, owner) and _is_per_object(module, function, value):
            what = f"{value.id}.{back.attr} and {owner.id}.{target.attr} refer to each other"
            sure = Confidence.HIGH
            if function.name == "__init__":
                sure = Confidence.MEDIUM if _passes(module, function) else Confidence.LOW
            yield _suspect(module, target, what, sure)


def _of_owner(module: Module, function: Function, stores: Links) -> Iterator[Suspect]:
    for target, value in stores:
        if not isinstance(value, ast.Call) or not isinstance(value.func, ast.Name):
            continue
        if not occasions.is_self(module, target.value) or _is_broken(module, target, function):
            continue
        of = module.class_of(target)
        made = module.classes.get(value.func.id)
        if of is None:
            continue
        if _is_error_of(value, target.value):
            if not occasions.is_made_once(module, of):
                what = f"self.{target.attr} is a {value.func.id} whose args hold the {of.name} that holds it"
                yield _suspect(module, target, what, Confidence.MEDIUM)
            continue
        if made is None:
            continue
        sure = _how_often(module, of, target, function)
        if sure is None:
            continue
        back = _kept_as(module, made, value, target.value)
        if back is None or _is_broken(module, back, function):
            continue
        what = f"self.{target.attr} is a {made.name} whose {back.attr} is the {of.name} that holds it"
        yield _suspect(module, target, what, sure)


def _how_often(module: Module, of: ast.ClassDef, link: ast.Attribute, function: Function) -> Confidence | None:
    """How sure it is that a class's objects come and go: the file makes them in a function that may run often, or
    it makes none of them and links on first use; None where they look like made once."""
    if occasions.is_made_once(module, of) or occasions.is_set_up(function):
        return None
    if occasions.made_in_functions(module, of):
        return Confidence.MEDIUM if _passes(module, function) else Confidence.LOW
    elsewhere = not any(occasions.is_called(module, use) for use in module.names.get(of.name, ()))
    first_use = function.name != "__init__" and any(
        isinstance(above, ast.If)
        and any(isinstance(part, ast.Attribute) and part.attr == link.attr for part in ast.walk(above.test))
        for above in module.above(link)
    )
    later = function.name not in ("__init__", "__new__", "__post_init__") and not first_use
    if elsewhere and later and not _is_new_each_time(module, of, link):
        return Confidence.LOW  # what makes them, a server or a framework, does so again and again
    return Confidence.LOW if elsewhere and first_use else None


def _is_new_each_time(module: Module, of: ast.ClassDef, link: ast.Attribute) -> bool:
    """Whether several methods make the linked object, each taking the place of the last one."""
    stores = [use for use in module.attributes.get(link.attr, ()) if isinstance(use.ctx, ast.Store)]
    places = {module.function(use) for use in stores if module.class_of(use) is of}
    return len({each.name for each in places if each is not None} - {"__init__"}) > 1


def _is_error_of(value: ast.Call, owner: ast.expr) -> bool:
    """Whether a call makes an exception of an object: whatever its class does, `args` holds what it is made of."""
    made = getattr(value.func, "id", "")
    return (
        made.endswith(("Error", "Exception"))
        and isinstance(owner, ast.Name)
        and any(isinstance(each, ast.Name) and each.id == owner.id for each in value.args)
    )


def _passes(module: Module, method: Function) -> bool:
    of = module.class_of(method)
    return of is not None and occasions.is_passing(module, of)


def _kept_as(module: Module, made: ast.ClassDef, call: ast.Call, owner: ast.expr) -> ast.Attribute | None:
    """The attribute in which a class's `__init__` keeps the object it is called with, as it is."""
    start = next((item for item in made.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"), None)
    if start is None or not isinstance(owner, ast.Name):
        return None
    names = [argument.arg for argument in (*start.args.posonlyargs, *start.args.args)][1:]
    given = dict(zip(names, call.args, strict=False))
    given |= {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    held = {name for name, argument in given.items() if isinstance(argument, ast.Name) and argument.id == owner.id}
    for target, value in occasions.attribute_stores(module):
        if module.function(target) is not start:
            continue
        if isinstance(value, ast.Name) and value.id in held and occasions.is_self(module, target.value):
            return target
    return None


def _is_broken(module: Module, link: ast.Attribute, function: Function) -> bool:
    """Whether the file deletes the attribute, sets it anew outside an `__init__`, or makes it a property, whose
    setter may do anything."""
    if any(other.name == link.attr for other in module.functions):
        return True
    for use in module.attributes.get(link.attr, ()):
        if isinstance(use.ctx, ast.Del):
            return True
        if use is link or not isinstance(use.ctx, ast.Store):
            continue
        place = module.function(use)
        if place is None or place.name == "__init__":
            continue
        value = getattr(module.up[use], "value", None)
        if place is not function or not isinstance(value, ast.Name | ast.Call):
            return True
    return False


def _is_per_object(module: Module, function: Function, name: ast.Name) -> bool:
    """Whether a name is an object of this call or of its class, not one that lives as long as the process."""
    owner = module.owner(name, name.id)
    if owner is None or isinstance(owner, ast.Module | ast.ClassDef) or name.id in module.imports:
        return False
    if not occasions.is_self(module, name):
        return name.id != "cls" and not occasions.is_set_up(function)
    of = module.class_of(name)
    return of is not None and not occasions.is_made_once(module, of)


def _is_neighbour(attribute: str) -> bool:
    return attribute.strip("_").startswith(_NEIGHBOURS)


def _suspect(module: Module, target: ast.Attribute, what: str, confidence: Confidence) -> Suspect:
    owner = target.value
    assert isinstance(owner, ast.Name)
    of = module.class_of(target) if occasions.is_self(module, owner) else None
    names = ["*"] if of is None else [of.name, *(base for base in module.class_bases(of) if base), "*"]
    return Suspect(
        node=target,
        message=f"{what}: a cycle of strong references that nothing here breaks, so {_COST}",
        driver=Driver.CALL if of is None else Driver.INSTANCE,
        confidence=confidence,
        fix=_FIX,
        holder=f"{owner.id}.{target.attr}" if of is None else f"{of.name}.{target.attr}",
        unless=tuple(f"stops:{name}.{target.attr}" for name in names),
    )
