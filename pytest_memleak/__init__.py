"""Memory-leak regression testing for Python web services."""

from typing import Final

__version__: Final = "0.1.0"
