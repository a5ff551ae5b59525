"""Put the shop to test on the path, open it once, and hand its client to the tests."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

SHOPS = ("leaky_shop", "fixed_shop")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shop", choices=SHOPS, default=SHOPS[0], help="which shop to test")


def pytest_configure(config: pytest.Config) -> None:
    shop: str = config.getoption("--shop", default=SHOPS[0])
    sys.path.insert(0, str(Path(__file__).parent.parent / shop))


@pytest.fixture(scope="session")
def client() -> Iterator[TestClient]:
    shop = importlib.import_module("shop.main")
    with TestClient(shop.app) as client:
        yield client
