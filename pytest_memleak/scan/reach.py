"""Which functions the endpoints reach: breadth first along calls, resolved by imports and by `self`.

An object is known by the call that made it, or by its parameter's annotation; what else a local has is not
followed. So what is reached is surely named on the way; what is not
reached may run per request all the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from pytest_memleak.scan.facts import Facts
from pytest_memleak.scan.routes import ALIAS, Route

MOST_ENDPOINTS: Final = 5
"""More than a reader follows; the finding's weight is the same for one."""

_MOST_HOPS: Final = 8
"""Re-exports and prefixes followed before a ring is assumed; real ones have two or three."""

_VERBS: Final = ("delete", "get", "head", "on_connect", "on_receive", "options", "patch", "post", "put")


class _Names:
    """Where each dotted name leads, over all files."""

    def __init__(self, files: Iterable[Facts]) -> None:
        self.modules: dict[str, Facts] = {}
        self.functions: dict[str, tuple[Facts, str]] = {}
        self.classes: dict[str, Facts] = {}
        self.suffixes: dict[str, str] = {}
        for facts in files:
            self.modules[facts.name] = facts
            head = f"{facts.name}." if facts.name else ""
            for symbol in facts.calls:
                self.functions[head + symbol] = (facts, symbol)
            for symbol in facts.classes:
                self.classes[head + symbol] = facts
        for name in self.modules:
            last = name.rpartition(".")[2]
            self.suffixes[last] = "" if last in self.suffixes else name

    def functions_of(self, name: str, facts: Facts, symbol: str) -> Iterator[str]:
        """The functions that run when `name` is called in a function."""
        if name.startswith("self."):
            method = name[5:]
            owner = symbol
            while owner := owner.rpartition(".")[0]:
                if owner in facts.classes:
                    yield from self._method(f"{facts.name}.{owner}".lstrip("."), method)
                    return
            return
        if name.startswith(ALIAS):
            module, last = self._home(name[1:])
            marked = f"{module.name}.{ALIAS}{last}".lstrip(".") if module else ""
            if marked in self.functions:
                yield marked
            return
        yield from self._called(name)

    def _called(self, name: str) -> Iterator[str]:
        name = self._followed(name)
        if name in self.functions:
            yield name
        elif name in self.classes:
            for method in ("__init__", "__call__"):
                yield from self._method(name, method)
        else:
            yield from self._on_instance(name)

    def _on_instance(self, name: str) -> Iterator[str]:
        """`app.store.STORE.add`, and a class's method by the class's name."""
        holder, _, method = name.rpartition(".")
        holder = self._followed(holder)
        module, _, last = holder.rpartition(".")
        known = self.modules.get(module)
        if known is not None and last in known.instances:
            holder = self._followed(known.instances[last])
        if holder in self.classes:
            yield from self._method(holder, method)

    def endpoint(self, name: str) -> Iterator[str]:
        """The functions behind an endpoint: a class's are those that are named after the verbs."""
        found = self._followed(name)
        if found in self.classes:
            for verb in _VERBS:
                yield from self._method(found, verb)
        yield from self._called(name)

    def _method(self, owner: str, method: str) -> Iterator[str]:
        waiting, seen = deque([owner]), {owner}
        while waiting:
            name = waiting.popleft()
            if f"{name}.{method}" in self.functions:
                yield f"{name}.{method}"
                return
            for base in self.classes[name].classes[self._symbol(name)] if name in self.classes else ():
                followed = self._followed(base)
                if followed not in seen:
                    seen.add(followed)
                    waiting.append(followed)

    def _symbol(self, name: str) -> str:
        module = self.classes[name].name
        return name[len(module) + 1 :] if module else name

    def _home(self, name: str) -> tuple[Facts | None, str]:
        module, _, last = self._followed(name).rpartition(".")
        return self.modules.get(module), last

    def _followed(self, name: str) -> str:
        """A name where it is defined, through what modules import from one another."""
        for _ in range(_MOST_HOPS):
            if name in self.functions or name in self.classes:
                return name
            parts = name.split(".")
            for end in range(len(parts) - 1, 0, -1):
                head = ".".join(parts[:end])
                facts = self.modules.get(head) or self._by_suffix(head)
                if facts is not None:
                    break
            else:
                return name
            first, rest = parts[end], parts[end + 1 :]
            if first in facts.imports and facts.imports[first] != name:
                name = ".".join([facts.imports[first], *rest])
            elif facts.name != head:
                name = ".".join([facts.name, first, *rest]).lstrip(".")
            else:
                return name
        return name

    def _by_suffix(self, head: str) -> Facts | None:
        """A module that folders without `__init__.py` let the scanner name shorter than its importers do."""
        known = self.suffixes.get(head.rpartition(".")[2])
        if known and (head.endswith(f".{known}") or known.endswith(f".{head}")):
            return self.modules[known]
        return None

    def labels(self, route: Route, prefixes: Prefixes) -> list[str]:
        """`GET /items/{id}`, once for each place that its router is included at."""
        return [f"{route.verb} {before}{route.path}" for before in prefixes.before(self._followed(route.router))]

    def prefixes(self) -> Prefixes:
        """The prefixes of all files' routers, by the names that they are defined under."""
        known = Prefixes()
        for facts in self.modules.values():
            for router, prefix, into in facts.prefixes:
                known.add(self._followed(router), prefix, self._followed(into) if into else "")
        return known


class Prefixes:
    """What stands before the paths of each router: its own prefix, behind those of all that it is included in."""

    def __init__(self) -> None:
        self._own: dict[str, str] = {}
        self._included: dict[str, list[tuple[str, str]]] = {}

    def add(self, router: str, prefix: str, into: str) -> None:
        """Note that a router is included in another, or in itself: its own prefix."""
        if router == into:
            self._own[router] = prefix
        else:
            self._included.setdefault(router, []).append((into, prefix))

    def before(self, router: str) -> list[str]:
        """Each prefix that a router's paths are found below; `""` where there is none."""
        found = [(router, self._own.get(router, ""))]
        for _ in range(_MOST_HOPS):
            further: list[tuple[str, str]] = []
            for name, prefix in found:
                places = self._included.get(name) or [("", "")]
                further += [(into, self._own.get(into, "") + before + prefix) for into, before in places]
            found = further[:MOST_ENDPOINTS]
            if not any(name in self._included for name, _ in found):
                break
        return list(dict.fromkeys(prefix for _, prefix in found))


def reached(files: Iterable[Facts]) -> dict[str, tuple[str, ...]]:
    """The endpoints that reach each function, by its dotted name, shortest way first; empty without endpoints."""
    files = list(files)
    routes = [route for facts in files for route in facts.routes]
    if not any(route.is_endpoint for route in routes):
        return {}
    names = _Names(files)
    prefixes = names.prefixes()
    found: dict[str, list[str]] = {}
    waiting: deque[tuple[str, str]] = deque()
    for route in routes:
        for label in names.labels(route, prefixes):
            waiting.extend((function, label) for function in names.endpoint(route.target))
    edges: dict[str, tuple[str, ...]] = {}
    while waiting:
        function, label = waiting.popleft()
        known_labels = found.setdefault(function, [])
        if label in known_labels or len(known_labels) >= MOST_ENDPOINTS:
            continue
        known_labels.append(label)
        if function not in edges:
            facts, symbol = names.functions[function]
            edges[function] = tuple(
                dict.fromkeys(to for name in facts.calls[symbol] for to in names.functions_of(name, facts, symbol))
            )
        waiting.extend((to, label) for to in edges[function])
    return {function: tuple(labels) for function, labels in found.items()}
