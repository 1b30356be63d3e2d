"""Jobs of all kinds on many hosts that have all kinds of faults.

    tools/test -m soak tests/soak --hosts 8 --jobs 200 --faults 40 --seed 1

Afterwards each job is over for a reason of its own or for a fault that one of its
hosts had while it was there, none ran twice, and nothing of them is left on any host.
The seed gives the jobs and the faults; what meets what is a matter of time.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.soak.people import Expected, People
from tests.soak.trouble import SEVERS, Trouble
from tests.support.box import V2_HOST, box_of
from tests.support.cluster import Cluster, running_cluster
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until

#: On those hosts that can keep a job to it.
MEMORY = """
INSERT INTO resources (type, network_address, host, quantity)
SELECT 'mem_mib', 'c' || h, 'c' || h, 30 FROM generate_series(1, %s) AS h, generate_series(1, 3) WHERE 'c' || h <> %s
"""
SPOOL_MIB = 2
HEALTH = '[health]\ninterval = "5 s"\nretry = "2 s"\ntimeout = "5 s"\n'
OVERHEAD_S = 150
#: A fault may be noticed a moment later.
BLUR_S = 2.0


@dataclass
class Stay:
    """Where a job was last, and from when to when by the clock."""

    hosts: set[str]
    begun: float
    ended: float


@dataclass
class Soak:
    """An instance on a box of its own, its jobs, and the faults it has had."""

    system: Cluster
    people: People
    trouble: Trouble

    def wrong(self) -> list[str]:
        """A sentence for each job that is not as it has to be."""
        held = """
            SELECT DISTINCT ON (job_id) job_id, hosts, extract(epoch FROM lower(held))::float8,
                extract(epoch FROM COALESCE(upper(held), now()))::float8
            FROM (SELECT a.*, array(SELECT DISTINCT network_address FROM resources WHERE a.resources @> resource_id)
                  AS hosts FROM allocations a) AS allocations
            ORDER BY job_id, attempt DESC
        """
        rows = self.system.database.execute(held)
        stays = {job_id: Stay(set(hosts), begun, ended) for job_id, hosts, begun, ended in rows}  # type: ignore[call-overload]
        return [
            f"job {job_id} ({expected.kind}, {', '.join(sorted(stay.hosts))}): {fault}"
            for job_id, expected in self.people.jobs.items()
            for stay in [stays.get(job_id, Stay(set(), 0, 0))]
            for fault in self.faults_of(job_id, expected, self.met(job_id, stay))
        ]

    def met(self, job_id: int, stay: Stay) -> set[str]:
        """What happened to the hosts of a job while it was there."""
        return {
            fault.what
            for fault in self.trouble.faults
            if fault.host in stay.hosts
            and fault.begun < stay.ended + BLUR_S
            and fault.ended > stay.begun - BLUR_S
            and (fault.job_id is None or fault.job_id == job_id)
        }

    def faults_of(self, job_id: int, expected: Expected, met: set[str]) -> Iterator[str]:
        job = self.system.job(job_id)
        ran = self.system.work / f"ran.{job_id}"
        times = len(ran.read_text().splitlines()) if ran.exists() else 0
        causes = expected.causes
        causes = causes | ({"node_rebooted"} if "host is rebooted" in met else set())
        causes = causes | ({"vanished"} if "wrapper dies" in met else set())
        severed = expected.said is not None and bool(met & SEVERS)
        if job.state not in ("Terminated", "Error"):
            yield f"is {job.state}: {job.message}"
        elif job.end_cause not in causes:
            yield f"ended with {job.end_cause}, exit {job.exit_code}, {job.message!r}"
        elif job.end_cause == "exit" and not severed:
            if expected.status is not None and job.exit_code != expected.status << 8:
                yield f"ended with exit {job.exit_code}"
            if expected.said is not None and self.system.read(f"OAR.{job_id}.stdout") != expected.said:
                yield f"wrote {self.system.read(f'OAR.{job_id}.stdout')!r}"
        if times > 1:
            yield f"ran {times} times"
        if times == 0 and job.end_cause in ("exit", "walltime", "out_of_memory") and expected.kind != "interactive":
            yield "never ran"

    def contradictions(self) -> list[object]:
        """Where a host and the tables contradict each other."""
        said = """
            SELECT hosts, description FROM events WHERE type = 'LOG_SUSPECTED'
              AND description ~ '^it (speaks of|says that)|it was not rebooted$'
        """
        return [*self.system.database.execute(said)]

    def left(self) -> list[str]:
        """What is still there of any job."""
        number = re.search(r'"number": (\d+)', (self.system.box.directory / "box.json").read_text())
        assert number
        found = []
        for host in self.trouble.hosts:
            found += [f"{host} keeps {kept(path)}" for path in self.system.spool_of(host).glob("*/jobs/*")]
            groups = Path("/sys/fs/cgroup").glob(f"*/oarbox{number[1]}/{host}/oarpy/*/*.*/")
            found += [f"{host} has the group {path}" for path in groups if re.fullmatch(r"\d+\.\d+", path.name)]
            owner = self.system.user.pw_name
            lines = self.trouble.on(host, "ps", "-eo", "user:32,args").splitlines()
            found += [f"{host} runs {line}" for line in lines if line.split()[0] == owner]
        return found


def kept(entry: Path) -> str:
    """What is to be known of an entry that should not be there."""
    with suppress(FileNotFoundError):
        names = sorted(path.name for path in entry.iterdir())
        progress = (entry / "progress").read_text() if "progress" in names else ""
        return f"{entry.name}: {' '.join(names)}; {progress}"
    return f"{entry.name}, which is just being removed"


@contextmanager
def a_soak(database: TestDatabase, hosts: int, seed: int) -> Iterator[Soak]:
    with (
        box_of(hosts, "--spool-mib", str(SPOOL_MIB)) as box,
        running_cluster(database, box=box, hosts=hosts, settings=HEALTH) as system,
    ):
        database.execute(MEMORY, (hosts, V2_HOST))
        names = [f"c{n}" for n in range(1, hosts + 1)]
        soak = Soak(system, People(system, random.Random(seed)), Trouble(system, names, random.Random(seed)))
        try:
            yield soak
        finally:
            # pytest shows it where a test failed.
            print(f"seed {seed}", *soak.trouble.faults, sep="\n")
            for log in sorted(box.directory.glob("c*/spool/*/*/guard.log")):
                print(f"{log.relative_to(box.directory)}:\n{log.read_text(errors='replace')}")


def soaked(database: TestDatabase, *, hosts: int, jobs: int, faults: int, seed: int, long_s: float) -> None:
    with a_soak(database, hosts, seed) as soak, ThreadPoolExecutor(max(8, jobs // 4)) as pool:
        submitting = pool.submit(soak.people.submit, pool, jobs)
        soak.trouble.make(faults, jobs, submitting.done, long_s=long_s)
        done = [each.exception() for each in submitting.result(timeout=300)]

        # Which ones are not, and why, is told below.
        soak.trouble.revive_while_jobs_last(OVERHEAD_S + 2 * jobs)
        found: list[object] = [*soak.wrong(), *filter(None, done), *soak.contradictions()]
        # A runner that died had not told every host what is over; its next session does.
        last = soak.system.oarsub("-l", f"/host={hosts}", "true")
        # What the last fault did to a host may be known only now.
        soak.trouble.revive_while_jobs_last(OVERHEAD_S)
        soak.system.wait_until_final(last, timeout_s=60)
        with suppress(AssertionError):
            wait_until(lambda: soak.left() == [], timeout_s=30)
        assert [*found, *soak.left()] == []


@pytest.mark.soak
def test_many_jobs_on_many_hosts_with_many_faults(database: TestDatabase, pytestconfig: pytest.Config) -> None:
    hosts, jobs, faults, seed = (int(pytestconfig.getoption(name)) for name in ("hosts", "jobs", "faults", "seed"))

    soaked(database, hosts=hosts, jobs=jobs, faults=faults, seed=seed, long_s=60)


def test_thirty_jobs_on_three_hosts_with_a_few_faults(database: TestDatabase) -> None:
    soaked(database, hosts=3, jobs=30, faults=6, seed=1, long_s=0)
