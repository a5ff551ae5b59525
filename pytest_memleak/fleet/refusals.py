"""Why a store gave no answer, as one sentence that says what to do."""

from __future__ import annotations

import re
from typing import Any, Final

from pytest_memleak.fleet.plan import FleetError
from pytest_memleak.slugs import see

_SHOWN: Final = 300
"""Characters of what a store says itself."""

# Prometheus' --query.max-samples, its time limit, Mimir's and Thanos' limits of chunks, bytes and length.
_LARGE: Final = re.compile(
    r"too many (samples|points|chunks|bytes)|maximum (number|resolution|size)|exceed|timed? ?out|too (long|large)",
    re.IGNORECASE,
)


class TooMuch(Exception):
    """The question was too large for the store, or its answer for us: it may be asked in parts."""


class Unreachable(FleetError):
    """Nobody answers there, or nobody whom we may ask: another question would fare no better."""

    def __init__(self, sentence: str) -> None:
        super().__init__(see("no-answer-from-store", sentence))


def unreachable(name: str, error: Exception, timeout_s: float) -> Unreachable:
    """There was no answer."""
    import httpx

    words = str(error) or type(error).__name__
    if "SSL" in words or "TLS" in words or "certificate" in words:
        return Unreachable(
            f"{name} cannot be trusted or speaks no TLS ({words}): "
            "take http:// if it is plain, or name its authority by SSL_CERT_FILE=ca.pem"
        )
    if isinstance(error, httpx.TimeoutException):
        return Unreachable(
            f"{name} did not answer within {timeout_s:g} s: is it reachable? "
            "Ask for less by --range and --selector, or give it more time by --timeout"
        )
    if isinstance(error, httpx.ConnectError):
        return Unreachable(f"{name} does not answer ({words}): is Prometheus running there, and is the port right?")
    if isinstance(error, httpx.LocalProtocolError):
        return Unreachable(f"--token or --header cannot be sent to {name} ({words})")
    if isinstance(error, httpx.TooManyRedirects):
        return Unreachable(f"{name} redirects in a circle: it may want a login; give its token by --token")
    return Unreachable(f"{name} broke off or speaks no HTTP ({words}): is it the URL of a Prometheus?")


def refused(name: str, status: int, found: Any, body: bytes, query: str) -> Exception:
    """There was an answer, without what was asked for. Gives TooMuch where less may be had."""
    own = _own_words(found, body)
    said = f": {own}" if own else ""
    if status in (401, 403):
        return Unreachable(
            f"{name} refuses strangers (HTTP {status}{said}): give a token by --token, "
            "or a tenant by --header X-Scope-OrgID:TENANT"
        )
    if isinstance(found, dict) and found.get("status") == "error":
        if status in (413, 503, 504) or (status in (400, 422, 429, 500) and _LARGE.search(own)):
            return TooMuch(f"{name} finds the query too large{said}")
        asked = f" {query!r}" if query else ""
        return FleetError(f"{name} refuses the query{asked}{said} (HTTP {status})")
    if status in (413, 504):
        return TooMuch(f"{name} finds the query too large (HTTP {status})")
    if status == 404:
        return Unreachable(f"{name} has no /api/v1: is it the URL of a Prometheus, with its path prefix if it has one?")
    if status != 200:
        return FleetError(f"{name} answers with HTTP {status}{said}")
    if body.lstrip()[:1] == b"<":
        return FleetError(
            f"{name} answers with a web page: it is no Prometheus, "
            "or a login stands before it; give its token by --token"
        )
    return not_prometheus(name)


def not_prometheus(name: str) -> FleetError:
    """There was an answer that says something else than an answer does."""
    return FleetError(f"{name} answers, but not as Prometheus' HTTP API does")


def _own_words(found: Any, body: bytes) -> str:
    """What the store says of it: its error, or a short plain text."""
    if isinstance(found, dict):
        words = str(found.get("error") or found.get("message") or "")
    else:
        words = body.decode(errors="replace") if body[:1] not in (b"<", b"") and len(body) <= _SHOWN else ""
    words = " ".join(words.split())
    return words if len(words) <= _SHOWN else words[: _SHOWN - 1] + "…"
