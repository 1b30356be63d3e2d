"""Admission rules: those kept in the database, and where the files are that hold as well."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from psycopg2 import sql

from oarpy.client.connection import Connection
from oarpy.errors import ConfigurationError, RequestRefused
from oarpy.instance import Instance, shared
from oarpy.model.wording import excerpt


class Rule(NamedTuple):
    """One rule; ``ident`` is the number of a row, or the name of a file.

    ``number`` of a file is its place among the files, in the order in which they are asked.
    """

    ident: str
    priority: int
    enabled: bool
    text: str
    in_file: bool = False
    number: int | None = None


def rules(conn: Connection, instance: Instance) -> list[Rule]:
    """All of them, in the order in which they are asked."""
    rows = conn.rows("SELECT id, name, priority, enabled, rule FROM oar.admission_rules")
    # As the server sorts them: by priority, then by name.
    found = [
        (priority, name, Rule(str(id_), priority, enabled, rule, number=id_))
        for id_, name, priority, enabled, rule in rows
    ]
    in_rows = {rule.number for _, _, rule in found}
    for number, rule in enumerate(sorted(_files(instance), key=lambda rule: (rule.priority, rule.ident)), start=1):
        # A row that somebody gave a small number keeps it: that number deletes and changes.
        own = None if number in in_rows else number
        found.append((rule.priority, rule.ident, rule._replace(number=own)))
    return [rule for _, _, rule in sorted(found, key=lambda each: each[:2])]


def directory(instance: Instance) -> str:
    """Where the files of rules are."""
    own = instance.admission_rules_dir
    return own if os.path.isdir(own) else shared("conf", "admission_rules.d")


def add(conn: Connection, name: str, priority: int, enabled: bool, text: str) -> int:
    """Insert a rule; its number."""
    return int(
        conn.value(
            "INSERT INTO oar.admission_rules (name, priority, enabled, rule) VALUES (%s, %s, %s, %s) RETURNING id",
            (name, priority, enabled, text),
        )
    )


def change(conn: Connection, rule_id: int, changes: Mapping[str, object]) -> None:
    """Give a rule new values for some columns; raises ``RequestRefused`` when there is no such rule."""
    assignments = [sql.SQL("{} = {}").format(sql.Identifier(column), sql.Placeholder()) for column in changes]
    statement = sql.SQL("UPDATE oar.admission_rules SET {} WHERE id = {}").format(
        sql.SQL(", ").join(assignments), sql.Placeholder()
    )
    if not conn.change(statement, [*changes.values(), rule_id]):
        raise RequestRefused(f"there is no rule {rule_id}; oaradmissionrules -S lists them")


def remove(conn: Connection, rule_id: int) -> None:
    """Delete a rule; raises ``RequestRefused`` when there is none."""
    if not conn.change("DELETE FROM oar.admission_rules WHERE id = %s", (rule_id,)):
        raise RequestRefused(f"there is no rule {rule_id}; oaradmissionrules -S lists them")


def _files(instance: Instance) -> list[Rule]:
    place = directory(instance)
    found = []
    try:
        for name in os.listdir(place):
            if name.endswith(".py") and not name.startswith("."):
                number = re.match(r"\d{1,9}", name)
                with open(os.path.join(place, name), encoding="utf-8", errors="replace") as file:
                    found.append(Rule(name, int(number[0]) if number else 0, True, file.read(), in_file=True))
    except OSError as error:
        raise ConfigurationError(f"{excerpt(place)} cannot be read: {error.strerror}") from error
    return found
