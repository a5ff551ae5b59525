"""Why an inspection ends: each message is one sentence for the user."""

from __future__ import annotations


class InspectionError(Exception):
    """It cannot be done, or cannot be done this way."""


class Gone(Exception):
    """The process has ended, or does not answer any more."""
