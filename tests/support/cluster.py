"""An instance on the hosts of a cluster in a box."""

from __future__ import annotations

import os
import pwd
import shlex
import signal
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from tests.support import invariants
from tests.support.accounts import submitter
from tests.support.box import HOSTS, Box, a_box
from tests.support.instance import COMMANDS, SETTINGS, System, running
from tests.support.place import a_place
from tests.support.postgres import TestDatabase
from tests.support.typist import Typist
from tests.support.waiting import wait_until

#: Two cores on each host.
PLATFORM = """
INSERT INTO resources (network_address, host, cpu, core, cpuset)
SELECT 'c' || h, 'c' || h, h, 2 * h + n, n::text FROM generate_series(1, %s) AS h, generate_series(0, 1) AS n
"""
EVENTS = "SELECT date::time(3)::text, type, job_id, hosts, description FROM events ORDER BY event_id"


class Cluster(System):
    """An instance whose resources are on the hosts of ``box``, which keep its jobs in ``spool``."""

    def __init__(self, root: Path, database: TestDatabase, user: pwd.struct_passwd, box: Box, spool: str) -> None:
        super().__init__(root, database, user)
        self.box = box
        self.spool = spool

    def on(self, host: str, *command: str) -> str:
        """What a command says that root runs on ``host``."""
        return self.box.do("exec", host, *command)

    def spool_of(self, host: str) -> Path:
        """The spool of ``host``, as it is seen from here."""
        return self.box.directory / host / "spool" / Path(self.spool).name

    def entries(self, host: str) -> list[str]:
        """The launches that ``host`` keeps."""
        return sorted(path.name for path in self.spool_of(host).glob("*/jobs/*"))

    def events(self, job_id: int) -> list[tuple[object, ...]]:
        return self.database.execute("SELECT type, hosts FROM events WHERE job_id = %s ORDER BY event_id", (job_id,))

    def kill_process(self, name: str) -> int | None:
        """Kill one of the server's processes; its pid, if there was one."""
        pid = self.processes().get(name)
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return pid

    def replace_process(self, name: str) -> None:
        """Kill one of the server's processes and wait for another."""
        before = self.kill_process(name)
        wait_until(lambda: self.processes().get(name) not in (None, before), what=f"another {name}")

    def on_front_end(
        self, *words: str, user: pwd.struct_passwd | None = None, stdout: IO[bytes] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A command as it is typed where the hosts' names are known; it may fail."""
        return self.run(*words, user=user, check=False, inside=self._front_end(), stdout=stdout)

    def at_terminal(self, *words: str) -> Typist:
        """The same at a terminal."""
        command = [str(COMMANDS / words[0]), *words[1:]]
        return Typist(command, self.user, cwd=self.work, environment=self.environment, inside=self._front_end())

    def _front_end(self) -> Sequence[str]:
        hosts = self.box.directory / "c1" / "hosts"
        return ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(hosts)]


@contextmanager
def running_cluster(
    database: TestDatabase, *, hosts: int = HOSTS, settings: str = "", box: Box | None = None
) -> Iterator[Cluster]:
    """An instance with two cores on each of the first ``hosts`` hosts of ``box``, and none on this machine.

    ``settings`` begin in the section ``nodes``.  At the end the tables must not say anything impossible.
    """
    box = box or a_box()
    # Test databases are copies of one another, the instance's uuid included.  Not even the spool is of one name: the
    # guard that an earlier test left removes its control groups when it ends.
    database.execute("UPDATE instance SET uuid = gen_random_uuid()")
    spool = f"/var/spool/oarpy-{uuid.uuid4().hex}"
    nodes = f'[nodes]\nssh = "{shlex.join(box.ssh)}"\nspool_dir = "{spool}"\n'
    with a_place() as root:
        cluster = Cluster(root, database, submitter(), box, spool)
        with running(cluster, slots=0, settings=SETTINGS + nodes + settings):
            database.execute(PLATFORM, (hosts,))
            try:
                yield cluster
            finally:
                # pytest shows it where a test failed.
                print(*database.execute(EVENTS), sep="\n")
            assert invariants.broken(database.engine) == []
