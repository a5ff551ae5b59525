"""A locustfile: calls every operation of the OpenAPI document that `MEMLEAK_OPENAPI` names, equally often.

Only Locust imports it, in its own process: `locust -f .../openapi_load.py`. `load.load_environment` has its variables.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import random
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from locust import FastHttpUser, between, constant, events
from locust.runners import WorkerRunner

from pytest_memleak.workloads.load import EXCLUDE, HEADERS, INCLUDE, OPENAPI, WAIT_S
from pytest_memleak.workloads.openapi import FORM, Operation, Request, operations, request_for, skipped

STRIDE: Final = 1000
"""Numbers are so far apart in a process, and processes have those between: a run of more workers is unheard of."""

TIMEOUT_S: Final = 10.0
"""How long an answer may take: an endpoint that waits for an event which never comes would else hold every user."""

CROWD: Final = 0.25
"""The share of the users that may wait for the same operation. One that waits for an event which a made input never
brings would else hold all of them: each comes to it sooner or later. So three quarters go on."""

_counter = itertools.count(1)
_waiting: Counter[str] = Counter()


def read_document() -> Any:
    """Read the OpenAPI document; ends the process with one sentence if it cannot be read."""
    path = os.environ.get(OPENAPI)
    if not path:
        sys.exit(f"{OPENAPI} has to name the OpenAPI document to call.")
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        sys.exit(f"The OpenAPI document {path} cannot be read: {error}")


def chosen(document: Any, headers: dict[str, str]) -> list[Operation]:
    """The operations to call; ends the process with one sentence if there is none."""
    include, exclude = os.environ.get(INCLUDE), os.environ.get(EXCLUDE)
    try:
        found = operations(document, with_credentials=bool(headers))
        kept = [one for one in found if re.search(include or "", one.name)]
        kept = [one for one in kept if not (exclude and re.search(exclude, one.name))]
    except (ValueError, re.error) as error:
        sys.exit(str(error))
    if not kept:
        sys.exit(f"None of the {len(found)} operations that can be called is left to call.")
    return kept


def wait_time() -> Callable[[Any], float]:
    """The pause after each request, half to one and a half times what the environment says."""
    wait_s = float(os.environ.get(WAIT_S) or 0)
    return between(0.5 * wait_s, 1.5 * wait_s) if wait_s else constant(0)


def new_number(user: FastHttpUser) -> int:
    """A number that no other request of the run has, whichever process makes it."""
    # Each worker of a run has its own index; only workers of very old masters do not know it.
    index = getattr(user.environment.runner, "worker_index", -1)
    return next(_counter) * STRIDE + (index if index >= 0 else os.getpid()) % STRIDE


def is_crowded(user: FastHttpUser, name: str, count: int) -> bool:
    """Whether as many users as may wait for one of `count` operations already do."""
    runner = user.environment.runner
    # Twice as many places as users: each of them finds one, however few operations there are.
    places = (runner.user_count if runner else 1) * max(CROWD, 2 / count)
    return _waiting[name] >= max(1, places)


def send(user: FastHttpUser, name: str, request: Request, headers: dict[str, str]) -> None:
    """Send a request; made inputs may miss what exists (4xx), but that the server breaks is a failure."""
    query = urlencode(request.query, doseq=True)
    told = {**request.headers, **headers}
    if request.form is not None:
        told["Content-Type"] = FORM
    with user.client.request(
        request.method,
        f"{request.path}?{query}" if query else request.path,
        name=name,
        headers=told,
        data=None if request.form is None else urlencode(request.form, doseq=True),
        json=request.json,
        catch_response=True,
        allow_redirects=False,  # they may lead to somebody else's server
    ) as response:
        if 400 <= response.status_code < 500:
            response.success()
        elif response.status_code >= 500:
            response.failure(f"HTTP {response.status_code}")


def task_for(operation: Operation, count: int, headers: dict[str, str]) -> Callable[[FastHttpUser], None]:
    """The task that calls one of `count` operations."""

    def call(user: FastHttpUser) -> None:
        if is_crowded(user, operation.name, count):
            return
        number = new_number(user)
        _waiting[operation.name] += 1
        try:
            # Seeded with the number, a request can be made again; and processes that were forked differ.
            send(user, operation.name, request_for(operation, number, random.Random(number)), headers)
        finally:
            _waiting[operation.name] -= 1

    call.__name__ = call.__qualname__ = operation.name
    return call


_document = read_document()
_headers: dict[str, str] = json.loads(os.environ.get(HEADERS) or "{}")
_chosen = chosen(_document, _headers)


class OpenApiUser(FastHttpUser):
    """Calls the operations at random."""

    network_timeout = connection_timeout = TIMEOUT_S
    wait_time = wait_time()
    tasks = [task_for(operation, len(_chosen), _headers) for operation in _chosen]  # noqa: RUF012 - Locust's own


def tell_skipped(runner: Any, **_: Any) -> None:
    """Log the operations that are not called, once for a run."""
    if not isinstance(runner, WorkerRunner):
        for line in skipped(_document, with_credentials=bool(_headers)):
            logging.getLogger(__name__).warning("Not called: %s", line)


_hooks: Any = events  # their methods have no annotations
_hooks.init.add_listener(tell_skipped)
