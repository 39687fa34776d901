"""The server under test: $STEP3_URL, and the model it serves."""

import os

import pytest
import requests


@pytest.fixture(scope="session")
def url() -> str:
    return os.environ["STEP3_URL"].rstrip("/")


@pytest.fixture(scope="session")
def model(url: str) -> str:
    return requests.get(f"{url}/v1/models", timeout=30).json()["data"][0]["id"]
