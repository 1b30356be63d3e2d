"""What oar_resources_add and oar_resources_init have in common: resources to be added, or the script that would."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence

import click

from oarpy.client import properties, resources
from oarpy.client.connection import Connection
from oarpy.commands.listing import shown_hosts
from oarpy.commands.session import connect_as_admin, tell
from oarpy.errors import RequestRefused, SyntaxRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.identifiers import property_name
from oarpy.model.wording import excerpt

#: What every instance has; other properties must be made first.
GIVEN = frozenset({"host", "network_address", "cpu", "core", "cpuset", "type", "besteffort", "deploy", "quantity"})
#: Properties whose values are names.
TEXTS = frozenset({"gpudevice", "cluster", "switch", "model"})

Rows = Sequence[Mapping[str, str]]


def extra_properties(text: str) -> dict[str, str]:
    """The properties in ``-p mem=64 -p cluster=blue``, or ``mem=64 cluster=blue``; raises ``SyntaxRefused``."""
    try:
        words = [word for word in shlex.split(text) if word not in ("-p", "--property")]
    except ValueError as error:
        raise SyntaxRefused(f"{excerpt(text)} has a quote that is not closed") from error
    found = {}
    for word in words:
        name, equals, value = word.removeprefix("--property=").partition("=")
        if not equals:
            raise SyntaxRefused(f"{excerpt(word)} is not NAME=VALUE", exit_status=ExitStatus.REFUSED)
        found[property_name(name)] = value
    return found


def kinds_of(rows: Rows) -> dict[str, str]:
    """Name and kind of the properties that may have to be made for ``rows``."""
    if not rows:
        return {}
    return {
        name: "text" if name in TEXTS or not all(_is_number(row[name]) for row in rows) else "integer"
        for name in rows[0]
        if name not in GIVEN
    }


def script(
    rows: Rows,
    kinds: Mapping[str, str],
    *,
    oarproperty: str = "oarproperty",
    oarnodesetting: str = "oarnodesetting",
) -> str:
    """Commands of a shell that make the properties ``kinds`` and then the resources."""
    lines = []
    for name, kind in kinds.items():
        # It may be there already.
        lines.append(f"{oarproperty} -a {name}{' -c' if kind == 'text' else ''} || true")
    for row in rows:
        words = [f"-p {shlex.quote(f'{name}={value}')}" for name, value in row.items() if name != "network_address"]
        lines.append(f"{oarnodesetting} -a -h {shlex.quote(row['host'])} {' '.join(words)}")
    return "".join(f"{line}\n" for line in lines)


def add(rows: Rows, kinds: Mapping[str, str]) -> None:
    """Make what properties are missing, and all resources at once, or none."""
    connection: Connection = connect_as_admin()
    known = set(dict(properties.properties(connection)))

    def write(conn: Connection) -> tuple[int, list[str]]:
        drained = resources.drained_hosts(conn, {row["host"] for row in rows})
        for name, kind in kinds.items():
            if name not in known:
                properties.add_property(conn, name, kind)
        count = resources.add_resources(conn, [{"network_address": row["host"], **row} for row in rows])
        resources.drain_hosts(conn, drained)
        return count, drained

    count, drained = connection.transaction(write)
    for name in kinds:
        if name not in known:
            click.echo(f"Added property: {name}")
    hosts = len({row["host"] for row in rows})
    click.echo(f"{count} resource(s) of {hosts} host(s) added")
    if drained:
        tell(f"drained, and what is new of them too: {shown_hosts(drained)}")


def write_script(text: str, path: str) -> None:
    """Leave ``text`` in a file that its owner can run."""
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\nset -e\n{text}")
        os.chmod(path, 0o755)
    except OSError as error:
        raise RequestRefused(f"{path} cannot be written: {error.strerror}") from error


def next_numbers(conn: Connection, names: Iterable[str]) -> dict[str, int]:
    """The first number that is free in each of these columns."""
    wanted = list(names)
    found = resources.highest(conn, wanted)
    return {name: found[name] + 1 if name in found else 0 for name in wanted}


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdigit() and len(value) <= 18
