"""The migrations make what the code believes to be there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import ENUM

from oarpy.automata.job import JOB
from oarpy.automata.resource import RESOURCE
from oarpy.database.tables import metadata
from oarpy.instance import shared
from tests.support.postgres import TestDatabase

_ALL_OBJECTS = text(
    """
    SELECT c.relkind::text || ' ' || c.relname FROM pg_class c
        WHERE c.relnamespace = 'oar'::regnamespace AND c.relname NOT LIKE 'alembic%'
    UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE pronamespace = 'oar'::regnamespace
    UNION ALL SELECT 'type ' || typname FROM pg_type
        WHERE typnamespace = 'oar'::regnamespace AND typname NOT LIKE '%alembic%'
    UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        WHERE c.relnamespace = 'oar'::regnamespace AND NOT tgisinternal
    """
)


@pytest.fixture
def conn(database: TestDatabase) -> Iterator[Connection]:
    with closing(database.engine.connect()) as conn:
        yield conn


def alembic(conn: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", shared("migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = conn
    return config


def objects(conn: Connection) -> list[str]:
    return sorted(conn.execute(_ALL_OBJECTS).scalars())


def test_down_leaves_nothing_and_up_again_makes_the_same(conn):
    before = objects(conn)

    command.downgrade(alembic(conn), "base")
    between = objects(conn)
    command.upgrade(alembic(conn), "head")

    assert between == []
    assert objects(conn) == before


def test_the_migrations_make_what_the_metadata_says(conn):
    # Raises when autogenerate would have something to write.
    command.check(alembic(conn))


@pytest.mark.parametrize(("table", "machine"), [("job_edges", JOB), ("resource_edges", RESOURCE)])
def test_the_database_allows_the_changes_of_the_automaton_and_no_others(conn, table, machine):
    rows = conn.execute(text(f"SELECT before::text, after::text FROM {table}")).all()

    assert {tuple(row) for row in rows} == {(before.value, after.value) for before, after in machine.pairs()}


def enums() -> dict[str, ENUM]:
    columns = (column for table in metadata.tables.values() for column in table.columns)
    return {column.type.name: column.type for column in columns if isinstance(column.type, ENUM)}


@pytest.mark.parametrize("name", sorted(enums()))
def test_an_enum_of_the_database_has_the_members_of_python(conn, name):
    labels = conn.execute(text("SELECT unnest(enum_range(NULL::" + name + "))::text")).scalars().all()

    assert labels == enums()[name].enums


def test_every_enum_of_the_database_is_known_to_python(conn):
    names = conn.execute(text("SELECT typname FROM pg_type WHERE typtype = 'e'")).scalars().all()

    assert set(names) == set(enums())
