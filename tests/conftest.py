"""Fixtures of the end-to-end and protocol tests; what they do is in budlib.py."""
import os

import signal

import pytest

from budlib import BUD, Serve

# A run in the background (nohup, a CI's shell) starts with Ctrl-C ignored, and programs inherit
# that: the tests of Ctrl-C need it as a person's terminal has it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config):
    if not os.access(BUD, os.X_OK):
        raise pytest.UsageError(f"{BUD} is not there: `make build` first, or name the program with BUD_BIN")


@pytest.fixture(scope="module")
def served():
    """One `bud serve` with the bundled model for a file of tests."""
    with Serve() as s:
        yield s


@pytest.fixture(scope="module")
def client(served):
    with served.openai() as c:
        yield c
