"""The OpenAPI document of a server that runs."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

from pytest_memleak.soak.plan import PlanError

_WHERE: Final = "/openapi.json"
_TIMEOUT_S: Final = 30.0
_MOST_BYTES: Final = 50_000_000


def fetch_document(url: str, path: Path) -> None:
    """Write the server's own document to `path`. Raises PlanError when it has none."""
    way_out = "give a locustfile (--locustfile) or the document (--openapi)"
    try:
        # Not by a proxy: the server is on this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url + _WHERE, timeout=_TIMEOUT_S) as answer:  # http: the server's own address
            text = answer.read(_MOST_BYTES)
        json.loads(text)
    except urllib.error.HTTPError as error:
        raise PlanError(
            f"the server has no {_WHERE} to make a load from (it answers {error.code}): {way_out}"
        ) from None
    except (OSError, ValueError) as error:
        raise PlanError(f"the server's {_WHERE} cannot be read ({error}): {way_out}") from None
    path.write_bytes(text)
