"""What stands in the way of an instance, found before it does.

Looks and changes nothing; hosts are asked through the runner, by orders.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from itertools import groupby

import psycopg2
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from oarpy import settings
from oarpy.almighty import bringing_up
from oarpy.database import examinations, hosts, schema
from oarpy.database.examinations import Examined
from oarpy.drivers import postgresql
from oarpy.errors import ConfigurationError, OarError
from oarpy.instance import Instance, names_of_this_machine
from oarpy.model import numbering

LEAST_FREE_MIB = 512
#: What a host may keep jobs to.
ENFORCED = ("cpus", "memory", "freeze", "kill", "devices")
#: How long hosts have to say what they enforce.
HOSTS_WITHIN = timedelta(seconds=15)
HOSTS_MARGIN_S = 10.0
LOOK_S = 0.1
OAREXEC_TIMEOUT_S = 30.0
# Neither locks nor flushes can be relied on; a socket cannot live there either.
REMOTE = frozenset({"nfs", "nfs4", "lustre", "cifs", "smb3", "gpfs", "beegfs", "ceph", "fuse.sshfs", "9p"})


class Level(str, Enum):
    """How much a finding matters."""

    GOOD = "ok"
    WEAK = "weak"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    level: Level
    subject: str
    sentence: str


def examine(instance: Instance) -> Iterator[Finding]:
    """What there is to say about ``instance`` and this machine, the ground first."""
    if not os.path.isdir(instance.home):
        yield Finding(Level.BROKEN, "instance", f"{instance.home} does not exist: oarpy up makes it")
        return
    yield from _directory(instance)
    try:
        values = settings.load(instance.settings_file)
    except ConfigurationError as error:
        yield Finding(Level.BROKEN, "settings", str(error))
        return
    yield Finding(Level.GOOD, "settings", instance.settings_file)
    yield from _node(values.nodes.spool_dir or instance.spool_dir)
    if instance.database_url is None:
        yield from _private_server(instance, values)
    yield from _database(instance)


def _directory(instance: Instance) -> Iterator[Finding]:
    kind = _file_system(instance.home)
    room = os.statvfs(instance.home)
    free_mib = room.f_bavail * room.f_frsize // 2**20
    if kind in REMOTE:
        yield Finding(Level.BROKEN, "instance", f"{instance.home} lies on {kind}; it must be on a disk of this machine")
    elif kind in ("tmpfs", "ramfs"):
        yield Finding(Level.WEAK, "instance", f"{instance.home} lies in memory ({kind}) and ends with the machine")
    else:
        yield Finding(Level.GOOD, "instance", f"{instance.home} on {kind}")
    if free_mib < LEAST_FREE_MIB:
        yield Finding(Level.WEAK, "instance", f"only {free_mib} MiB are free")


def _node(spool: str) -> Iterator[Finding]:
    """What the node's own examination says of this machine."""
    command = [sys.executable, "-m", "oarpy.node.oarexec", "doctor", "--spool", spool]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=OAREXEC_TIMEOUT_S, cwd="/")
        facts = json.loads(said.stdout)
    except (subprocess.SubprocessError, ValueError) as error:
        yield Finding(Level.BROKEN, "node", f"oarexec does not work here: {error}")
        return
    yield Finding(Level.GOOD, "node", f"jobs are contained by {facts['containment']['by']}, python {facts['python']}")
    for sentence in facts["findings"]:
        yield Finding(Level.WEAK, "node", sentence)


def _private_server(instance: Instance, values: settings.Settings) -> Iterator[Finding]:
    cluster = postgresql.cluster_of(instance, values.database)
    try:
        binaries = postgresql.find_binaries(cluster.data)
        yield Finding(Level.GOOD, "PostgreSQL", f"{binaries.version} in {binaries.directory}")
    except ConfigurationError as error:
        yield Finding(Level.BROKEN, "PostgreSQL", str(error))
    if not postgresql.is_running(cluster):
        yield Finding(Level.BROKEN, "PostgreSQL", "does not run: oarpy up starts it")


def _database(instance: Instance) -> Iterator[Finding]:
    try:
        with closing(psycopg2.connect(**instance.dsn("oar_user"))) as conn, conn.cursor() as cursor:
            cursor.execute("SELECT SYSTEM_USER")
            row = cursor.fetchone()
        yield Finding(Level.GOOD, "users", f"you are known to the database as {row[0] if row else None}")
        engine = bringing_up.admin_engine(instance)
        try:
            yield from _tables(engine)
        finally:
            engine.dispose()
        almighty = bringing_up.running_almighty(instance)
    except (psycopg2.Error, DBAPIError, OarError) as error:
        yield Finding(Level.BROKEN, "database", " ".join(str(error).split()))
        return
    if almighty is None:
        yield Finding(Level.BROKEN, "almighty", "does not run on this machine: oarpy up starts it")
        return
    yield Finding(Level.GOOD, "almighty", f"pid {almighty}")
    yield from _hosts(instance)


def _hosts(instance: Instance) -> Iterator[Finding]:
    """What each host enforces, as its own oarexec says."""
    engine = bringing_up.admin_engine(instance)
    try:
        with engine.begin() as conn:
            orders = examinations.ask(conn, HOSTS_WITHIN, but=names_of_this_machine())
        waiting = set(orders.values())
        deadline = time.monotonic() + HOSTS_WITHIN.total_seconds() + HOSTS_MARGIN_S
        while waiting and time.monotonic() < deadline:
            with engine.connect() as conn:
                found = examinations.answers(conn, orders)
            for one in found:
                if one.host in waiting:
                    waiting.discard(one.host)
                    yield from _host(one)
            if waiting:
                time.sleep(LOOK_S)
        for host in sorted(waiting):
            yield Finding(Level.WEAK, host, "was not examined in time")
    finally:
        engine.dispose()


def _host(examined: Examined) -> Iterator[Finding]:
    if examined.said is None:
        yield Finding(Level.WEAK, examined.host, f"cannot be examined: {examined.problem}")
        return
    try:
        by, enforces = str(examined.said["containment"]["by"]), list(examined.said["containment"]["enforces"])
        findings = [str(sentence) for sentence in examined.said["findings"]]
    except (KeyError, TypeError):
        yield Finding(Level.WEAK, examined.host, "what it says cannot be understood")
        return
    # Whatever can kill all of a job holds it still to do so.
    enforced = [what for what in ENFORCED if what in enforces or (what == "freeze" and "kill" in enforces)]
    lacking = [what for what in ENFORCED if what not in enforced]
    said = f"enforced: {', '.join(enforced) or 'nothing'} ({by})" + (f"; not: {', '.join(lacking)}" if lacking else "")
    yield Finding(Level.GOOD if {"cpus", "memory", "kill"} <= {*enforced} else Level.WEAK, examined.host, said)
    for sentence in findings:
        if not sentence.startswith("jobs are not kept to their"):
            yield Finding(Level.WEAK, examined.host, sentence)


def _tables(engine: Engine) -> Iterator[Finding]:
    found, needed = schema.revision(engine), schema.newest()
    if found != needed:
        yield Finding(Level.BROKEN, "schema", f"revision {found}, not {needed}: oarpy db upgrade")
        return
    yield Finding(Level.GOOD, "schema", f"revision {found}")
    with engine.connect() as conn:
        repeated = hosts.repeated_numbers(conn)
    for name, alike in groupby(repeated, key=lambda one: one.property):
        first, *others = alike
        yield Finding(Level.WEAK, "resources", numbering.sentence(name, first.number, first.hosts, others=len(others)))


def _file_system(path: str) -> str:
    """The type of the file system that ``path`` lies on, as the kernel names it."""
    inside = os.path.realpath(path) + "/"
    longest, kind = "", "an unknown file system"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            point = before.split()[4]
            if inside.startswith(point.rstrip("/") + "/") and len(point) >= len(longest):
                longest, kind = point, after.split()[0]
    return kind
