"""The runner on real hosts and tables: jobs to which somebody has given resources are brought to their end."""

from __future__ import annotations

import asyncio
import logging
import os
import pwd
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from oarpy import settings
from oarpy.database import launches, node_sessions
from oarpy.database.connection import open_engine, transaction
from oarpy.database.wake import Reader, wake
from oarpy.drivers.local import LocalExecutor
from oarpy.model.states import JobId, JobState
from oarpy.modules import runner
from oarpy.modules.context import Context
from tests.support import accounts, invariants, rows
from tests.support.place import a_place
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until

HOST = os.uname().nodename


class RunnerAtWork:
    """A runner in a thread, and the jobs of its test."""

    def __init__(self, database: TestDatabase, root: Path, user: pwd.struct_passwd) -> None:
        self.database = database
        self.user = user
        self.work = root / "work"
        self.spool = root / "spool"
        self.settings = settings.Settings()
        self._thread: threading.Thread | None = None
        self._stop: tuple[int, int] | None = None
        with database.engine.begin() as conn:
            self.resources = rows.resources(conn, HOST, 8)

    def start(self) -> None:
        self._stop = os.pipe()
        # An engine of its own: the hints of its own sessions do not wake a process.
        engine = open_engine(self.database.parameters("oar"), application_name="oarpy/0/runner")
        ctx = Context(engine, self.settings)
        executor = LocalExecutor(str(self.spool))
        stop = self._stop[0]
        self._thread = threading.Thread(
            target=lambda: asyncio.run(runner.Runner(ctx, lambda host: executor).serve(stop))
        )
        self._thread.start()

    def stop(self) -> None:
        if self._stop is not None and self._thread is not None:
            os.write(self._stop[1], b"x")
            self._thread.join(timeout=60)
            assert not self._thread.is_alive()
            for fd in self._stop:
                os.close(fd)
            self._stop = None

    def submit(self, command: str, *, state: JobState = JobState.TO_LAUNCH, slot: int = 0, **columns: object) -> JobId:
        """A job with one resource, as the scheduler leaves it."""
        with transaction(self.database.engine, None, durable=False) as conn:
            (job_id,) = rows.submitted(conn, owner=self.user.pw_name)
            changes = {
                "command": command,
                "launching_directory": str(self.work),
                "stdout_file": f"{job_id}.out",
                "stderr_file": f"{job_id}.err",
            } | columns
            sets = ", ".join(f"{name} = :{name}" for name in changes)
            conn.execute(text(f"UPDATE jobs SET {sets} WHERE job_id = :job_id"), changes | {"job_id": job_id})
            resource = self.resources[slot]
            rows.brought(conn, [job_id], state, holds=f"{{[{resource},{resource + 1})}}")
            wake(conn, Reader.RUNNER)
        return job_id

    def job(self, job_id: JobId) -> tuple[object, ...]:
        """(state, exit code, cause) as they stand in the table."""
        return self.database.execute("SELECT state, exit_code, end_cause FROM jobs WHERE job_id = %s", (job_id,))[0]

    def wait(self, job_id: JobId, *states: str) -> tuple[object, ...]:
        wait_until(lambda: self.job(job_id)[0] in states, timeout_s=60, what=f"job {job_id} is {states}")
        return self.job(job_id)

    def wait_final(self, job_id: JobId) -> tuple[object, ...]:
        return self.wait(job_id, "Terminated", "Error")

    def events(self, job_id: JobId) -> list[object]:
        return [
            kind
            for (kind,) in self.database.execute(
                "SELECT type FROM events WHERE job_id = %s ORDER BY event_id", (job_id,)
            )
        ]

    def history(self, job_id: JobId) -> list[object]:
        found = self.database.execute(
            "SELECT job_state FROM job_state_logs WHERE job_id = %s ORDER BY date_start", (job_id,)
        )
        return [state for (state,) in found]

    def order(self, job_id: JobId, kind: str, **columns: object) -> None:
        values = {"kind": kind, "job_id": job_id} | columns
        names = ", ".join(values)
        marks = ", ".join("%s" for _ in values)
        self.database.execute(
            f"INSERT INTO orders ({names}, attempt, deadline) SELECT {marks}, attempt, now() + '60 s' FROM jobs "
            "WHERE job_id = %s",
            (*values.values(), job_id),
        )
        self.database.execute("NOTIFY oar_runner")

    def read(self, name: str) -> str:
        with suppress(FileNotFoundError):
            return (self.work / name).read_text()
        return ""


@pytest.fixture
def at_work(database: TestDatabase) -> Iterator[RunnerAtWork]:
    user = accounts.submitter()
    with a_place() as root:
        at_work = RunnerAtWork(database, root, user)
        at_work.work.mkdir()
        os.chown(at_work.work, user.pw_uid, user.pw_gid)
        try:
            at_work.start()
            yield at_work
            assert invariants.broken(database.engine) == []
        finally:
            at_work.stop()


def test_a_job_runs_through_its_states_to_its_end(at_work):
    job_id = at_work.submit("echo hello; exit 3")

    assert at_work.wait_final(job_id) == ("Terminated", 768, "exit")
    assert at_work.read(f"{job_id}.out") == "hello\n"
    assert at_work.history(job_id) == [
        "Waiting",
        "toLaunch",
        "Launching",
        "Running",
        "Finishing",
        "Terminated",
    ]
    held = at_work.database.execute("SELECT upper_inf(held) FROM allocations WHERE job_id = %s", (job_id,))
    assert held == [(False,)]


def test_a_job_may_use_its_share_of_the_hosts_memory(at_work):
    limit = Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")
    if os.getuid() != 0 or not limit.exists():
        pytest.skip("needs the memory controller of cgroups v1, and root")
    at_work.stop()
    at_work.settings = replace(at_work.settings, nodes=replace(at_work.settings.nodes, memory_share=True))
    at_work.start()

    job_id = at_work.submit(
        "cat /sys/fs/cgroup/memory$(grep :memory: /proc/self/cgroup | cut -d: -f3)/memory.limit_in_bytes"
    )

    assert at_work.wait_final(job_id) == ("Terminated", 0, "exit")
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert int(at_work.read(f"{job_id}.out")) >> 20 == (pages >> 20) // 8


def test_a_host_on_which_no_attempt_begins_is_blamed_from_the_third_on(at_work):
    at_work.stop()
    job_id = at_work.submit("true", state=JobState.LAUNCHING)
    with at_work.database.engine.begin() as conn:
        for _ in range(2):
            launches.return_unbegun(conn, [job_id])
            rows.brought(conn, [job_id], JobState.LAUNCHING)
        instance = node_sessions.instance(conn)
    tombstone = at_work.spool / str(instance) / "jobs" / f"{job_id}.3" / "refused"
    tombstone.parent.mkdir(parents=True)
    tombstone.write_text("1 1\n")

    at_work.start()

    at_work.wait(job_id, "Waiting")
    assert at_work.events(job_id) == ["LAUNCHING_OAREXEC_TIMEOUT"]


def test_many_jobs_run_at_once(at_work):
    jobs = [at_work.submit(f"exit {slot}", slot=slot) for slot in range(8)]

    assert [at_work.wait_final(job)[1] for job in jobs] == [slot << 8 for slot in range(8)]


def test_a_job_finds_oar_s_variables_and_files(at_work):
    job_id = at_work.submit("env; cat $OAR_NODEFILE; cat $OAR_RESOURCE_PROPERTIES_FILE")

    at_work.wait_final(job_id)

    said = at_work.read(f"{job_id}.out")
    for line in (
        f"OAR_JOB_ID={job_id}",
        f"OAR_ARRAY_ID={job_id}",
        f"OAR_USER={at_work.user.pw_name}",
        "OAR_JOB_WALLTIME=1:0:0",
        "OAR_JOB_WALLTIME_SECONDS=3600",
        f"OAR_WORKDIR={at_work.work}",
        f"OAR_STDOUT={at_work.work}/{job_id}.out",
        HOST,
    ):
        assert f"\n{line}\n" in f"\n{said}"
    assert f"network_address = '{HOST}'" in said
    assert f"resource_id = '{at_work.resources[0]}'" in said


def test_the_start_is_when_the_command_began(at_work):
    job_id = at_work.submit("sleep 0.5")

    at_work.wait_final(job_id)

    (took, planned) = at_work.database.execute(
        "SELECT extract(epoch FROM stopped_at - started_at)::float, planned_end_at - started_at = walltime "
        "FROM jobs WHERE job_id = %s",
        (job_id,),
    )[0]
    assert 0.3 < took < 20
    assert planned


def test_a_launch_that_cannot_be_fails_with_oar_s_event(at_work):
    job_id = at_work.submit("true", launching_directory="/does/not/exist")

    assert at_work.wait_final(job_id) == ("Error", None, "launch_error")
    assert "WORKING_DIRECTORY" in at_work.events(job_id)


def test_a_kill_ordered_for_a_running_job_ends_it(at_work):
    job_id = at_work.submit("trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done")
    wait_until(lambda: "ready" in at_work.read(f"{job_id}.out"), what="the job runs")

    at_work.database.execute(
        "INSERT INTO frag_jobs (job_id, cause, asked_by) VALUES (%s, 'besteffort', 'x')", (job_id,)
    )
    at_work.order(job_id, "kill")

    assert at_work.wait_final(job_id) == ("Error", 5 << 8, "besteffort")
    orders = at_work.database.execute("SELECT succeeded FROM orders WHERE job_id = %s", (job_id,))
    assert orders == [(True,)]


def test_a_signal_is_delivered_and_its_result_kept(at_work):
    job_id = at_work.submit("trap 'echo got it' USR1; echo ready; while :; do sleep 0.05; done")
    wait_until(lambda: "ready" in at_work.read(f"{job_id}.out"), what="the job runs")

    at_work.order(job_id, "signal", signal=10)

    wait_until(lambda: "got it" in at_work.read(f"{job_id}.out"), what="the signal arrives")
    wait_until(lambda: "SIG_SUCCESS" in at_work.events(job_id), what="its event")
    at_work.order(job_id, "kill", exterminate=True)
    at_work.wait_final(job_id)


def test_a_suspended_job_lends_its_resources_and_a_resumed_one_goes_on(at_work):
    job_id = at_work.submit("echo ready; until [ -e go ]; do sleep 0.05; done")
    wait_until(lambda: "ready" in at_work.read(f"{job_id}.out"), what="the job runs")

    at_work.order(job_id, "suspend")
    at_work.wait(job_id, "Suspended")
    (at_work.work / "go").touch()
    suspended = at_work.database.execute("SELECT suspended FROM allocations WHERE job_id = %s", (job_id,))
    at_work.database.execute("UPDATE allocations SET suspended = false WHERE job_id = %s", (job_id,))
    at_work.database.execute("UPDATE jobs SET state = 'Resuming' WHERE job_id = %s", (job_id,))
    at_work.order(job_id, "resume")

    assert suspended == [(True,)]
    assert at_work.wait_final(job_id) == ("Terminated", 0, "exit")
    assert at_work.database.execute("SELECT suspended_for > '0 s' FROM jobs WHERE job_id = %s", (job_id,)) == [(True,)]


def test_a_job_that_is_launching_is_launched_by_the_next_runner(at_work):
    at_work.stop()
    job_id = at_work.submit("echo once >> ran", state=JobState.LAUNCHING)

    at_work.start()

    assert at_work.wait_final(job_id) == ("Terminated", 0, "exit")
    assert at_work.read("ran") == "once\n"


def test_jobs_that_run_and_end_without_a_runner_are_found_by_the_next(at_work):
    long = at_work.submit("echo ready; until [ -e go ]; do sleep 0.05; done; echo done", slot=0)
    short = at_work.submit("echo ready; until [ -e stop ]; do sleep 0.05; done; exit 4", slot=1)
    for job_id in (long, short):
        at_work.wait(job_id, "Running")
    at_work.stop()
    (at_work.work / "stop").touch()

    at_work.start()

    assert at_work.wait_final(short) == ("Terminated", 4 << 8, "exit")
    assert at_work.job(long)[0] == "Running"
    (at_work.work / "go").touch()
    assert at_work.wait_final(long) == ("Terminated", 0, "exit")
    assert at_work.read(f"{long}.out") == "ready\ndone\n"


def test_a_noop_job_runs_nothing_until_it_is_killed(at_work):
    job_id = at_work.submit("echo ran > ran", types=["noop"])
    at_work.wait(job_id, "Running")

    at_work.order(job_id, "kill")

    assert at_work.wait_final(job_id)[0] == "Error"
    assert at_work.read("ran") == ""


def test_a_noop_job_whose_walltime_is_over_has_done_what_it_had_to(at_work):
    job_id = at_work.submit("true", types=["noop"])
    at_work.wait(job_id, "Running")

    at_work.database.execute(
        "INSERT INTO frag_jobs (job_id, cause, asked_by, state) VALUES (%s, 'walltime', 'sarko', 'TIMER_ARMED')",
        (job_id,),
    )
    at_work.order(job_id, "kill")

    assert at_work.wait_final(job_id) == ("Terminated", 0, "exit")


def test_what_is_over_is_forgotten_by_the_host(at_work):
    job_id = at_work.submit("true")
    at_work.wait_final(job_id)

    wait_until(lambda: not list(at_work.spool.glob("*/jobs/*")), timeout_s=60, what="the host has forgotten it")


def test_a_running_job_that_its_host_knows_nothing_of_makes_the_host_suspected(at_work):
    first = at_work.submit("true")
    at_work.wait_final(first)
    at_work.stop()
    job_id = at_work.submit("echo ran > ran", state=JobState.RUNNING)
    at_work.database.execute("UPDATE jobs SET head = %s WHERE job_id = %s", (HOST, job_id))

    at_work.start()

    wait_until(
        lambda: at_work.database.execute("SELECT count(*) FROM events WHERE type = 'LOG_SUSPECTED'") == [(1,)],
        what="the event",
    )
    assert at_work.job(job_id)[0] == "Running"
    assert at_work.read("ran") == ""


def test_after_a_reboot_a_job_of_which_nothing_is_left_is_over(at_work):
    first = at_work.submit("true")
    at_work.wait_final(first)
    at_work.stop()
    job_id = at_work.submit("true", state=JobState.RUNNING)
    at_work.database.execute("UPDATE node_sessions SET boot_id = 'an earlier one'")

    at_work.start()

    assert at_work.wait_final(job_id) == ("Error", None, "node_rebooted")


def test_a_host_that_cannot_be_reached_is_suspected_and_its_launches_wait(at_work, caplog):
    at_work.stop()
    at_work.spool = at_work.work / "not a directory" / "spool"
    at_work.spool.parent.write_text("")
    job_id = at_work.submit("true")

    at_work.start()

    wait_until(
        lambda: at_work.database.execute("SELECT count(*) FROM events WHERE type = 'NODE_UNREACHABLE'") == [(1,)],
        what="the event",
    )
    assert at_work.job(job_id)[0] == "toLaunch"
    ((said,),) = at_work.database.execute("SELECT description FROM events WHERE type = 'NODE_UNREACHABLE'")
    assert said.startswith("no session could be opened, 4 times in a row: ")

    def told() -> list[logging.LogRecord]:
        return [one for one in caplog.records if getattr(one, "event", None) == "SESSION_LOST"]

    # After the event's transaction.
    wait_until(lambda: [one for one in told() if one.levelno >= logging.WARNING], what="it is told")
    assert len([one for one in told() if one.levelno >= logging.WARNING]) == 1


def program(at_work: RunnerAtWork, text: str) -> str:
    path = at_work.work.parent / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("script", "event"),
    [("exit 1", "SERVER_PROLOGUE_EXIT_CODE_ERROR"), ("sleep 60", "SERVER_PROLOGUE_TIMEOUT")],
)
def test_a_failing_server_prologue_hurts_its_job_only(at_work, script, event):
    at_work.stop()
    one = program(at_work, f"[ $1 = 1 ] || exit 0; {script}")
    at_work.settings = with_programs(at_work.settings, server_prologue=one)
    at_work.start()

    bad, good = at_work.submit("echo ran > ran", slot=0), at_work.submit("true", slot=1)

    assert at_work.wait_final(good) == ("Terminated", 0, "exit")
    assert at_work.wait_final(bad) == ("Error", None, "prologue")
    assert event in at_work.events(bad)
    assert at_work.read("ran") == ""


def test_the_server_epilogue_comes_after_the_job_and_before_its_end(at_work):
    at_work.stop()
    at_work.settings = with_programs(at_work.settings, server_epilogue=program(at_work, "[ $1 = 1 ]"))
    at_work.start()

    good, bad = at_work.submit("true", slot=0), at_work.submit("true", slot=1)

    assert at_work.wait_final(good) == ("Terminated", 0, "exit")
    assert at_work.wait_final(bad) == ("Error", 0, "epilogue")
    assert "SERVER_EPILOGUE_EXIT_CODE_ERROR" in at_work.events(bad)


def with_programs(base: settings.Settings, **programs: str) -> settings.Settings:
    return replace(base, prologue=replace(base.prologue, timeout=timedelta(seconds=8), **programs))
