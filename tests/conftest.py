"""Fixtures that every kind of test may use; nothing starts before a test asks for it."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.support import invariants
from tests.support.instance import HINTED, System, running_system
from tests.support.postgres import TestDatabase, TestServer, throwaway_server


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("soak", "-m soak")
    group.addoption("--hosts", type=int, default=8, help="how many hosts the soak test has")
    group.addoption("--jobs", type=int, default=200, help="how many jobs it submits")
    group.addoption("--faults", type=int, default=40, help="how many faults they meet")
    group.addoption("--seed", type=int, default=1, help="which faults and jobs, and in which order")


def pytest_configure() -> None:
    # What a script leaves in the background ignores interrupts, and so would the commands under test.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres() -> Iterator[TestServer]:
    """The PostgreSQL of this run."""
    with throwaway_server() as server:
        yield server


@pytest.fixture
def database(postgres: TestServer) -> Iterator[TestDatabase]:
    """A migrated database for this test alone."""
    with postgres.database() as database:
        yield database


@pytest.fixture
def system(database: TestDatabase) -> Iterator[System]:
    """A running instance for this test alone; at its end the tables must not say anything impossible."""
    with running_system(database) as system:
        yield system
        assert invariants.broken(database.engine) == []


@pytest.fixture
def hinted_system(database: TestDatabase) -> Iterator[System]:
    """The same, in which only hints let anything happen within a test."""
    with running_system(database, settings=HINTED) as system:
        yield system
        assert invariants.broken(database.engine) == []
