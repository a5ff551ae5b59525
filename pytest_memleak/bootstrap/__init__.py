"""The way into every Python that is started with this folder in PYTHONPATH, without a change to the user's code."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

FOLDER = Path(__file__).parent


def search_path(environment: Mapping[str, str]) -> str:
    """PYTHONPATH with this folder before what was in it."""
    before = environment.get("PYTHONPATH")
    return str(FOLDER) + (os.pathsep + before if before else "")
