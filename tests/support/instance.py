"""A whole instance, with the processes and the commands that people use.

It has the database of its test, in the PostgreSQL of the run, and a directory of
its own; nothing else differs from what ``oarpy up`` makes.
"""

from __future__ import annotations

import os
import pwd
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

from oarpy.almighty import bringing_up
from oarpy.instance import Instance
from tests.support import accounts
from tests.support.place import a_place
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until

COMMANDS = Path(sys.executable).parent
#: Timers short enough for tests; the order of them is the real one's.
SETTINGS = """
[server]
lease = "3 s"
turn_period = "1 s"
sarko_period = "500 ms"
restart_delay = "50 ms"
[kill]
soft = "1 s"
hard = "2 s"
grace = "2 s"
"""
#: The same where what nobody is told of is not seen for long.
HINTED = SETTINGS.replace('turn_period = "1 s"', 'turn_period = "10 min"')
PROCESSES = {"appendice", "scheduler", "runner", "judas"}
FINAL = ("Terminated", "Error")
S = TypeVar("S", bound="System")


@dataclass(frozen=True)
class Job:
    """What the tables say of a job."""

    state: str
    exit_code: int | None
    end_cause: str | None
    message: str
    attempt: int


class System:
    """A running instance; ``user`` submits its jobs."""

    def __init__(self, root: Path, database: TestDatabase, user: pwd.struct_passwd) -> None:
        self.root = root
        self.database = database
        self.user = user
        self.home = root / "home"
        self.work = root / "work"
        self.environment = {**os.environ, "OARPY_HOME": str(self.home), "OARPY_DATABASE": database.url}
        self.almighty: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start almighty and wait until it leads and all its processes run."""
        with open(self.home / "log" / "almighty.log", "ab") as log:
            self.almighty = subprocess.Popen(
                [sys.executable, "-m", "oarpy.almighty"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=self.environment,
                start_new_session=True,
            )
        wait_until(self._is_up, what="almighty leads, and its processes run")

    def stop(self) -> None:
        """Stop it in an orderly way."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill almighty alone, as the kernel would for want of memory."""
        self._end(signal.SIGKILL)

    def processes(self) -> dict[str, int]:
        """The process ids of almighty's processes, by name."""
        rows = self.database.execute("SELECT name, pid FROM processes WHERE pid IS NOT NULL")
        return {str(name): int(str(pid)) for name, pid in rows}

    def run(
        self,
        *words: str,
        user: pwd.struct_passwd | None = None,
        check: bool = True,
        stdin: str = "",
        inside: Sequence[str] = (),
        stdout: IO[bytes] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """A command of oarpy's as ``user`` types it, in the directory of the jobs, ``inside`` another one."""
        user = user or self.user
        command = [str(COMMANDS / words[0]), *words[1:]]
        done = subprocess.run(
            [*inside, *accounts.switched(user, command)],
            input=stdin,
            stdout=stdout or subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            # Longer than any command has to wait in a test: one that waits for ever fails it.
            timeout=300,
            cwd=self.work,
            env=accounts.environment_of(user, self.environment),
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(words)}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def admin(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The same by the account that runs the instance."""
        return self.run(*words, user=pwd.getpwuid(os.geteuid()), check=check)

    def oarsub(self, *words: str, user: pwd.struct_passwd | None = None) -> int:
        """The id of the job, or of the first of an array."""
        return self.oarsub_array(*words, user=user)[0]

    def oarsub_array(self, *words: str, user: pwd.struct_passwd | None = None) -> list[int]:
        """The ids of all jobs of one submission."""
        said = self.run("oarsub", *words, user=user).stdout
        return [int(number) for number in re.findall(r"^OAR_JOB_ID=(\d+)$", said, re.MULTILINE)]

    def job(self, job_id: int) -> Job:
        """What the tables say of ``job_id`` now."""
        columns = "state, exit_code, end_cause, message, attempt"
        rows = self.database.execute(f"SELECT {columns} FROM jobs WHERE job_id = %s", (job_id,))
        return Job(*rows[0])  # type: ignore[arg-type]

    def wait_until_state(self, job_id: int, *states: str, timeout_s: float = 60) -> Job:
        """The job, once it is in one of ``states``."""
        wait_until(
            lambda: self.job(job_id).state in states, timeout_s=timeout_s, what=f"job {job_id} is {' or '.join(states)}"
        )
        return self.job(job_id)

    def wait_until_final(self, job_id: int, timeout_s: float = 60) -> Job:
        """The job, once it is over."""
        return self.wait_until_state(job_id, *FINAL, timeout_s=timeout_s)

    def wait_until_all_final(self, job_ids: Sequence[int], timeout_s: float = 180) -> None:
        """Return when all of ``job_ids`` are over."""
        unfinished = "SELECT count(*) FROM jobs WHERE job_id = ANY(%s) AND stopped_at IS NULL"
        wait_until(
            lambda: self.database.execute(unfinished, (list(job_ids),)) == [(0,)],
            timeout_s=timeout_s,
            what="all are over",
        )

    def read(self, name: str) -> str:
        """A file of the directory of the jobs."""
        return (self.work / name).read_text()

    def log(self) -> str:
        """What the server has said."""
        return "".join(path.read_text(errors="replace") for path in sorted((self.home / "log").glob("*.log")))

    def _is_up(self) -> bool:
        if self.almighty is not None and self.almighty.poll() is not None:
            raise AssertionError(f"almighty ended with {self.almighty.returncode}:\n{self.log()}")
        leads = "SELECT pid, epoch FROM leadership"
        rows = self.database.execute(leads)
        if not rows or self.almighty is None or rows[0][0] != self.almighty.pid:
            return False
        at_work = self.database.execute("SELECT name FROM processes WHERE epoch = %s", (rows[0][1],))
        return {name for (name,) in at_work} >= PROCESSES

    def _end(self, signal_number: int) -> None:
        if self.almighty is not None:
            self.almighty.send_signal(signal_number)
            self.almighty.wait(timeout=60)
            self.almighty = None


@contextmanager
def running(system: S, *, slots: int, settings: str) -> Iterator[S]:
    """``system``, with ``slots`` single-core resources on this host."""
    system.work.mkdir()
    os.chown(system.work, system.user.pw_uid, system.user.pw_gid)
    bringing_up.make_home(Instance(str(system.home), database_url=system.database.url))
    (system.home / "oarpy.toml").write_text(settings)
    host = os.uname().nodename
    system.database.execute(
        "INSERT INTO resources (network_address, host, cpu, core) SELECT %s, %s, 0, n FROM generate_series(1, %s) AS n",
        (host, host, slots),
    )
    try:
        system.start()
        yield system
    finally:
        with suppress(subprocess.TimeoutExpired):
            system.stop()
        # pytest shows it where a test failed.
        print(system.log())


@contextmanager
def running_system(database: TestDatabase, *, slots: int = 4, settings: str = SETTINGS) -> Iterator[System]:
    """A running instance with ``slots`` single-core resources on this host; gone afterwards, its jobs too."""
    with a_place() as root:
        system = System(root, database, accounts.submitter())
        with running(system, slots=slots, settings=settings):
            yield system
