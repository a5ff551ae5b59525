"""Import this before anything that imports numpy: its BLAS is to use one core.

The cores are the server's and the load's while a soak goes on. OpenBLAS reads the variable when it is loaded; the
environment is left as it was, because the server inherits it and may compute itself.
"""

from __future__ import annotations

import os
from typing import Final

_VARIABLES: Final = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")

_before = {name: os.environ.get(name) for name in _VARIABLES}
os.environ.update(dict.fromkeys(_VARIABLES, "1"))
try:
    import numpy as numpy  # noqa: PLC0414  (loaded for its effect)
finally:
    for _name, _value in _before.items():
        if _value is None:
            del os.environ[_name]
        else:
            os.environ[_name] = _value
