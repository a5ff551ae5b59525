"""What lives inside each worker of a soaked server, without a change to the user's code."""

from __future__ import annotations

from pathlib import Path


def bootstrap_folder() -> Path:
    """The folder that brings the agent into every Python started with it in PYTHONPATH."""
    return Path(__file__).parent / "bootstrap"
