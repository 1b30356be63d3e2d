"""Fixtures of the tests that run one command at a time, without a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import rows
from tests.support.commands import Commands
from tests.support.postgres import TestDatabase, TestServer


@pytest.fixture
def commands(database: TestDatabase, tmp_path: Path) -> Commands:
    return Commands(database, str(tmp_path))


@pytest.fixture(scope="module")
def unchanged(postgres: TestServer) -> Iterator[TestDatabase]:
    """A database with the host c1, for all the tests of refusals of a file: they change nothing."""
    with postgres.database() as database:
        with database.engine.begin() as conn:
            rows.resources(conn, "c1", 2)
        yield database


@pytest.fixture
def two_hosts(database: TestDatabase) -> list[int]:
    """Two resources of c1, one of c2."""
    with database.engine.begin() as conn:
        return [*rows.resources(conn, "c1", 2), *rows.resources(conn, "c2")]
