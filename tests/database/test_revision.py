"""Whether almighty can work on the schema that it finds."""

from __future__ import annotations

import pytest

from oarpy.database import revision, schema
from oarpy.errors import ConfigurationError
from tests.support.postgres import TestDatabase


def test_the_names_of_the_migrations_tell_their_revisions() -> None:
    assert revision.known()[-1] == schema.newest()


def test_the_newest_schema_is_usable(database: TestDatabase) -> None:
    with database.engine.begin() as conn:
        revision.check_usable(conn)


@pytest.mark.parametrize(
    ("known", "said"),
    [(["0000"], "a newer oarpy made"), (["0001", "0002", "0003"], "too old for this oarpy")],
)
def test_others_are_refused_with_what_to_do(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch, known: list[str], said: str
) -> None:
    monkeypatch.setattr(revision, "known", lambda: known)

    with pytest.raises(ConfigurationError, match=said), database.engine.begin() as conn:
        revision.check_usable(conn)


def test_one_revision_behind_is_usable(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revision, "known", lambda: ["0001", "0002"])

    with database.engine.begin() as conn:
        revision.check_usable(conn)


def test_an_empty_database_is_refused(database: TestDatabase) -> None:
    database.execute("DROP TABLE alembic_version")

    with pytest.raises(ConfigurationError, match="no schema yet"), database.engine.begin() as conn:
        revision.check_usable(conn)
