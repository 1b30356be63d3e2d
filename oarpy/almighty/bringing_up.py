"""Making an instance, starting what belongs to it, and stopping it.

Everything here can be done again: each step looks first, so an interrupted one is
continued by the next.  Jobs are none of its business; they run on while an
instance is stopped.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from sqlalchemy import Engine
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from oarpy.almighty.preparation import start_database
from oarpy.database import hosts, overview, restoration, schema
from oarpy.database.connection import keeps_out, open_engine, transaction
from oarpy.database.restoration import Restored
from oarpy.drivers import postgresql
from oarpy.drivers.cores import usable_cores
from oarpy.drivers.processes import is_alive
from oarpy.errors import NotAllowed, ServerUnavailable
from oarpy.instance import Instance, shared
from oarpy.model.exit_statuses import ExitStatus
from oarpy.settings import Database, Settings

KEEPER = "oarpy.almighty.keeper"
#: Without one of these an instance does not do all of its work.
PROCESSES = frozenset({"appendice", "judas", "runner", "scheduler"})
START_TIMEOUT_S = 60.0
# The keeper waits for almighty, and then for the private PostgreSQL.
STOP_TIMEOUT_S = 90.0
POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Prepared:
    """What ``prepare`` found and did."""

    server_started: bool
    schema_changed: bool
    cores_added: int


@dataclass(frozen=True, slots=True)
class Stopped:
    """What ``stop`` found running; ``database`` is None where the server is the site's."""

    almighty: bool
    database: bool | None


def make_home(instance: Instance) -> bool:
    """Make the directories and the configuration of ``instance``; tell whether it is new."""
    new = not os.path.isdir(instance.home)
    everybody = 0o755 if os.geteuid() == 0 else 0o700
    for directory in (instance.home, instance.run_dir, instance.log_dir):
        os.makedirs(directory, mode=everybody, exist_ok=True)
    # Users' processes pass through it to their node files.
    os.makedirs(instance.spool_dir, mode=0o711, exist_ok=True)
    if not os.path.exists(instance.settings_file):
        _write_settings(instance.settings_file)
    if not os.path.exists(instance.admission_rules_dir):
        unfinished = instance.admission_rules_dir + ".new"
        shutil.copytree(shared("conf", "admission_rules.d"), unfinished, dirs_exist_ok=True)
        os.rename(unfinished, instance.admission_rules_dir)
    return new


def prepare(instance: Instance, settings: Settings) -> Prepared:
    """Start the database, bring it to the newest schema, and give a new one this machine's cores."""
    started = start_database(instance, settings)
    engine = admin_engine(instance)
    try:
        changed = schema.upgrade(engine)
        # A cluster's nodes are told by its admin; a private database means this machine.
        added = _add_cores(engine) if instance.database_url is None else 0
    finally:
        engine.dispose()
    return Prepared(started, changed, added)


def restore(instance: Instance, settings: Settings) -> Restored:
    """Make what was read back from a backup an instance of its own; starts and upgrades the database for it.

    Raises ``RequestRefused`` while almighty runs.
    """
    start_database(instance, settings)
    engine = admin_engine(instance)
    try:
        schema.upgrade(engine)
        with transaction(engine, None, durable=True) as conn:
            return restoration.restore(conn)
    finally:
        engine.dispose()


@dataclass(frozen=True, slots=True)
class Schema:
    """``revision`` is None without one; ``live`` counts jobs that are not over, ``begun`` those of them on nodes."""

    revision: str | None
    newest: str
    live: int = 0
    begun: int = 0


def examine_schema(instance: Instance) -> Schema:
    """What the database holds; starts nothing.

    Raises ``ServerUnavailable`` where it cannot be asked.
    """
    with asking(instance) as conn:
        found, newest = schema.revision(conn.engine), schema.newest()
        if found is None:
            return Schema(None, newest)
        return Schema(found, newest, *overview.unfinished(conn))


def remove_schema(instance: Instance) -> bool:
    """Remove all that oarpy has in the database; tell whether there was anything.

    Raises ``RequestRefused`` while almighty runs.
    """
    engine = admin_engine(instance)
    try:
        if schema.revision(engine) is not None:
            with transaction(engine, None, durable=False) as conn:
                restoration.check_nobody_leads(conn)
        return schema.remove(engine)
    finally:
        engine.dispose()


def let_readers_read(instance: Instance) -> None:
    """Give the role oar_reader again the right to read every table and view."""
    engine = admin_engine(instance)
    try:
        with transaction(engine, None, durable=True) as conn:
            overview.let_readers_read(conn)
    finally:
        engine.dispose()


def admin_engine(instance: Instance) -> Engine:
    """An engine of the role that owns the tables."""
    return open_engine(instance.dsn("oar"), application_name="oarpy/admin")


def start_keeper(instance: Instance) -> int:
    """Leave a keeper behind that outlives this process and its terminal; return its process id."""
    log_path = os.path.join(instance.log_dir, "keeper.log")
    with open(log_path, "ab") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", KEEPER],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env={**os.environ, "OARPY_HOME": instance.home},
            start_new_session=True,
        )
    return keeper.pid


def keeper_pid(instance: Instance) -> int | None:
    """The keeper that runs for ``instance``."""
    try:
        with open(os.path.join(instance.run_dir, "keeper.pid"), encoding="ascii") as file:
            pid = int(file.read())
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            arguments = file.read().split(b"\0")
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = file.read().split(b"\0")
    except (OSError, ValueError):
        return None
    # Its directory may have several names, and the number be that of another instance's keeper by now.
    homes = {os.path.realpath(word[len(b"OARPY_HOME=") :]) for word in environment if word.startswith(b"OARPY_HOME=")}
    ours = KEEPER.encode() in arguments and os.fsencode(os.path.realpath(instance.home)) in homes
    return pid if ours else None


def running_almighty(instance: Instance) -> int | None:
    """The process id of the almighty that leads from this machine.

    Raises ``ServerUnavailable`` where the database cannot be asked.
    """
    with asking(instance) as conn:
        leader, _ = _leadership(conn)
    here = leader is not None and leader.host == os.uname().nodename
    return leader.pid if leader is not None and here and is_alive(leader.pid) else None


def wait_for_almighty(instance: Instance, keeper: int | None) -> int:
    """The process id of almighty, once it leads and its processes run.

    Raises ``ServerUnavailable`` when that does not come about.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    with asking(instance) as conn:
        while True:
            leader, at_work = _leadership(conn)
            conn.rollback()  # the next look is at another instant
            if leader is not None and _leads(leader) and at_work >= PROCESSES:
                return leader.pid
            if keeper is not None and not is_alive(keeper):
                raise ServerUnavailable(f"the keeper ended; see {instance.log_dir}")
            if time.monotonic() > deadline:
                missing = ", ".join(sorted(PROCESSES - at_work)) or "almighty"
                raise ServerUnavailable(
                    f"{missing} did not start within {START_TIMEOUT_S:.0f} s; see {instance.log_dir}"
                )
            time.sleep(POLL_S)


def stop(instance: Instance) -> Stopped:
    """Stop almighty and then the private server, whatever else the settings say."""
    private = os.path.isdir(instance.data_dir) or instance.database_url is None
    # The keeper, when it ends, stops the server too.
    database_ran = _private_server_runs(instance)
    almighty_ran = _stop_almighty(instance)
    postgresql.stop_private(instance)
    return Stopped(almighty_ran, database_ran if private else None)


def _stop_almighty(instance: Instance) -> bool:
    """Stop the keeper, and with it almighty, in an orderly way; tell whether one was running.

    An almighty that nobody keeps (systemd, a terminal) is told itself.
    """
    pid = keeper_pid(instance)
    if pid is None and (instance.database_url is not None or _private_server_is_made(instance)):
        pid = running_almighty(instance)
    if pid is None:
        return False
    if _belongs_to_systemd(pid):
        raise ServerUnavailable(f"almighty (pid {pid}) is systemd's, which would start it again: systemctl stop oarpy")
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while is_alive(pid):
        if time.monotonic() > deadline:
            raise ServerUnavailable(f"process {pid} has not stopped after {STOP_TIMEOUT_S:.0f} s")
        time.sleep(POLL_S)
    return True


def _private_server_is_made(instance: Instance) -> bool:
    """False too where an ``up`` got no further than the server: nobody can lead there, and it is to stop."""
    return os.path.isdir(instance.data_dir) and postgresql.is_made(postgresql.cluster_of(instance, Database()))


def _private_server_runs(instance: Instance) -> bool:
    return os.path.isdir(instance.data_dir) and postgresql.is_running(postgresql.cluster_of(instance, Database()))


def look(instance: Instance) -> overview.Overview:
    """What ``instance`` is doing.

    Raises ``ServerUnavailable`` where its database cannot be asked.
    """
    with asking(instance) as conn:
        seen = overview.overview(conn)
    return replace(seen, processes=(*seen.processes, *_outside_epochs(instance)))


def _outside_epochs(instance: Instance) -> Iterator[overview.Process]:
    """What runs on this machine whoever leads."""
    pids = {"keeper": keeper_pid(instance)}
    if os.path.isdir(instance.data_dir):
        pids["postgresql"] = postgresql.postmaster(postgresql.cluster_of(instance, Database()))
    for name, pid in pids.items():
        if pid is not None:
            yield overview.Process(name, pid, os.uname().nodename)


def _leadership(conn: Connection) -> tuple[overview.Leader | None, frozenset[str]]:
    """Who leads, and the names of the processes of that epoch."""
    leader = overview.leader(conn) if overview.is_ours(conn) else None  # an up may have been interrupted
    if leader is None:
        return None, frozenset()
    return leader, frozenset(process.name for process in overview.processes(conn) if process.epoch == leader.epoch)


@contextmanager
def asking(instance: Instance) -> Iterator[Connection]:
    """A session of the role that owns the tables.

    Raises:
        NotAllowed: to this account PostgreSQL gives none.
        ServerUnavailable: it does not answer.
    """
    engine = admin_engine(instance)
    try:
        with engine.connect() as conn:
            yield conn
    except DBAPIError as error:
        if keeps_out(error):
            raise NotAllowed(
                "only root and the owner of the instance may do this", exit_status=ExitStatus.DENIED
            ) from error
        raise ServerUnavailable(f"the database does not answer: {str(error.orig).strip()}") from error
    finally:
        engine.dispose()


def _add_cores(engine: Engine) -> int:
    host = os.uname().nodename
    cores = [(core.cpu, core.core, core.cpuset) for core in usable_cores()]
    with transaction(engine, None, durable=True) as conn:
        return hosts.add_first(conn, host, cores)


def _write_settings(path: str) -> None:
    """Every setting with its explanation and none in force, so that later defaults reach this instance."""
    with open(shared("conf", "oarpy.toml"), encoding="utf-8") as file:
        lines = [f"#{line}" if line[0].isalpha() else line for line in file]
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.writelines(lines)
    os.replace(path + ".new", path)


def _leads(leader: overview.Leader) -> bool:
    if leader.host == os.uname().nodename:
        return is_alive(leader.pid)
    return leader.silent_for_s < START_TIMEOUT_S


def _belongs_to_systemd(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cgroup", encoding="ascii", errors="replace") as file:
            return any(line.rstrip("\n").endswith("/oarpy.service") for line in file)
    except OSError:
        return False
