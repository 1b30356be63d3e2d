"""``oarpy db upgrade`` changes what is older, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config

from oarpy.database import schema
from oarpy.errors import ConfigurationError, ServerUnavailable
from oarpy.instance import shared
from tests.support.postgres import TestDatabase

ROOT = Path(__file__).parents[2]


def emptied(database: TestDatabase) -> TestDatabase:
    config = Config()
    config.set_main_option("script_location", shared("migrations"))
    with database.engine.connect() as config.attributes["connection"]:
        command.downgrade(config, "base")
    return database


def test_an_empty_database_is_brought_to_the_newest_schema(database):
    emptied(database)

    assert schema.upgrade(database.engine)

    assert schema.revision(database.engine) == schema.newest()


def test_an_upgrade_of_the_newest_schema_changes_nothing(database):
    assert not schema.upgrade(database.engine)


def test_a_schema_from_the_future_is_left_alone(database):
    database.execute("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(ConfigurationError, match="the schema is at 9999, which this oarpy does not know"):
        schema.upgrade(database.engine)


def test_an_upgrade_does_not_wait_for_ever_behind_a_session(database):
    emptied(database)
    with closing(database.connect()) as holder, holder.cursor() as cursor:
        cursor.execute("LOCK TABLE alembic_version IN SHARE MODE")

        with pytest.raises(ServerUnavailable, match="cannot be upgraded: canceling statement due to lock timeout"):
            schema.upgrade(database.engine)

    assert schema.revision(database.engine) is None


@pytest.mark.parametrize(
    "form", ["{url}", "postgresql:///{name}?host={host}", "postgresql+psycopg2:///{name}?host={host}"]
)
def test_alembic_is_told_the_database_as_an_instance_is(database, form):
    where = form.format(url=database.url, name=database.name, host=database.parameters("oar")["host"])

    done = subprocess.run(
        [sys.executable, "-m", "alembic", "current"],
        cwd=ROOT,
        env={**os.environ, "OARPY_DATABASE": where},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == f"{schema.newest()} (head)\n", done.stderr
