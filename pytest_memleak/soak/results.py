"""Results of soaks read back: from a run's folder, or from a file that `--json` wrote."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

import cattrs

from pytest_memleak.model import SCHEMA_VERSION
from pytest_memleak.model_soak import Estimate, SoakResult
from pytest_memleak.slugs import see
from pytest_memleak.soak.act import review
from pytest_memleak.soak.folder import FolderError


def _estimate(value: dict[str, Any], _kind: object) -> Estimate:
    """A bound that is not known is null in JSON, which has no infinity."""
    low, high = value["low"], value["high"]
    return Estimate(
        value=float(value["value"]),
        low=-math.inf if low is None else float(low),
        high=math.inf if high is None else float(high),
    )


_CONVERTER: Final = cattrs.Converter()
_CONVERTER.register_structure_hook(Estimate, _estimate)


def load_result(path: Path) -> SoakResult:
    """The result of a run, or of a watch as one. Raises FolderError, one sentence, for what is none."""
    if path.is_dir():
        # A watch imports the folder of a soak: not the other way round when this module is.
        from pytest_memleak.watch import act as watches

        return watches.as_soak(watches.review(path)) if watches.is_watch(path) else review(path)
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        sentence = f"{path} does not exist: expects the folder of a run, or its result as JSON"
        raise FolderError(see("not-a-run", sentence)) from None
    except (OSError, ValueError) as error:
        raise FolderError(f"{path} cannot be read as a result ({error})") from None
    version = found.pop("version", None) if isinstance(found, dict) else None
    if version != SCHEMA_VERSION:
        said = "no version" if version is None else f"version {version!r}"
        sentence = f"{path} has {said}, and this memleak reads version {SCHEMA_VERSION}: soak it again"
        raise FolderError(see("not-a-run", sentence))
    try:
        return _CONVERTER.structure(found, SoakResult)
    except Exception as error:  # noqa: BLE001  (cattrs raises groups of whatever its hooks meet)
        raise FolderError(f"{path} is not the result of a soak ({error})") from None
