"""Jobs of all kinds on many hosts that have all kinds of faults.

    tools/test -m soak tests/soak --hosts 8 --jobs 200 --faults 40 --seed 1

Afterwards each job is over for a reason of its own or for a fault that its hosts
had, none ran twice, and nothing of them is left on any host.  The seed gives the
jobs and the faults; what meets what is a matter of time.
"""

from __future__ import annotations

import random
import re
import shlex
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.box import box_of
from tests.support.cluster import Cluster, running_cluster
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until

HEALTH = '[health]\ninterval = "5 s"\nretry = "2 s"\ntimeout = "5 s"\n'
#: A job that begins twice leaves two lines.
ONCE = 'echo $(hostname) >> "ran.$OAR_JOB_ID"; '
OVERHEAD_S = 60


@dataclass
class Expected:
    """What may become of a job that meets no fault."""

    kind: str
    causes: set[str]
    status: int | None = None


@dataclass
class Soak:
    """An instance on a box of its own, its jobs, and the faults it has had."""

    system: Cluster
    hosts: list[str]
    chance: random.Random
    luck: random.Random
    jobs: dict[int, Expected] = field(default_factory=dict)
    rebooted: set[str] = field(default_factory=set)
    told: list[str] = field(default_factory=list)

    # The jobs.

    def submit(self, pool: ThreadPoolExecutor, count: int) -> list[Future[None]]:
        """``count`` jobs, of every kind at least one when there are many; what people do to them meanwhile."""
        kinds = [
            self.plain, self.failing, self.parallel, self.array, self.late, self.killed,
            self.suspended, self.besteffort, self.daemon, self.interactive,
        ]  # fmt: skip
        people: list[Future[None]] = []
        order = kinds * (count // len(kinds) + 1)
        self.chance.shuffle(order)
        for kind in order:
            if len(self.jobs) >= count:
                break
            after = kind()
            if after is not None:
                people.append(pool.submit(after))
        return people

    def add(self, kind: str, causes: str, status: int | None, *words: str) -> int:
        job_ids = self.system.oarsub_array(*words)
        assert job_ids, words
        for job_id in job_ids:
            self.jobs[job_id] = Expected(kind, set(causes.split()), status)
        return job_ids[0]

    def plain(self) -> None:
        self.add("plain", "exit", 0, ONCE + f"sleep {self.chance.uniform(0.1, 3):.1f}")

    def failing(self) -> None:
        status = self.chance.choice([1, 3, 99, 127])
        self.add("failing", "exit", status, ONCE + f"exit {status}")

    def parallel(self) -> None:
        hosts = self.chance.randint(2, 3)
        command = ONCE + "timeout 20 oarsh $(tail -1 $OAR_NODEFILE) hostname; sleep 1; exit 5"
        self.add("parallel", "exit", 5, "-l", f"/host={hosts}/core=1", command)

    def array(self) -> None:
        self.add("array", "exit", 4, "--array", "4", ONCE + "sleep 0.$OAR_ARRAY_INDEX; exit 4")

    def late(self) -> None:
        self.add("late", "walltime", None, "-l", "/core=1,walltime=0:0:3", ONCE + "sleep 1000")

    def daemon(self) -> None:
        """Leaves a process behind in a session of its own."""
        self.add("daemon", "exit", 6, ONCE + "setsid sleep 1000 </dev/null >/dev/null 2>&1 & sleep 0.2; exit 6")

    def besteffort(self) -> None:
        self.add("besteffort", "exit besteffort", 0, "-t", "besteffort", ONCE + "sleep 4")

    def killed(self) -> Callable[[], None]:
        job_id = self.add("killed", "killed", None, "-l", "/host=2/core=1", ONCE + "trap '' TERM; sleep 1000")
        return lambda: self.when_running(job_id, lambda: self.order("oardel", job_id))

    def suspended(self) -> Callable[[], None]:
        job_id = self.add("suspended", "exit", 7, ONCE + "sleep 4; exit 7")

        def rest() -> None:
            self.order("oarhold", "-r", job_id)
            with suppress(AssertionError):
                self.system.wait_until_state(job_id, "Suspended", "Terminated", "Error", timeout_s=30)
            while self.state(job_id) in ("Suspended", "Running") and not self.resumed(job_id):
                self.order("oarresume", job_id)
                time.sleep(1)

        return lambda: self.when_running(job_id, rest)

    def interactive(self) -> Callable[[], None]:
        """Somebody at a terminal, who comes back when the link is lost, and gives up after a while."""
        person = self.system.at_terminal("oarsub", "-I", "--keep", "-l", "/core=1,walltime=0:2")
        job_id = int(person.wait_for(r"OAR_JOB_ID=(\d+)\r\n", timeout_s=60)[1])
        self.jobs[job_id] = Expected("interactive", {"exit", "killed", "walltime"}, None)

        def work() -> None:
            one = person
            for _ in range(5):
                try:
                    one.wait_for(rf"# Connect to OAR job {job_id} via the node \w+\r\n", timeout_s=300)
                    one.type(f"[ -e ran.{job_id} ] || echo $(hostname) >> ran.{job_id}\nexit 8\n")
                    one.end(timeout_s=30)
                except (AssertionError, OSError):
                    pass
                finally:
                    one.close()
                if self.state(job_id) in ("Terminated", "Error", "Finishing"):
                    return
                one = self.system.at_terminal("oarsub", "-C", str(job_id))
            one.close()
            self.order("oardel", job_id)

        return work

    def when_running(self, job_id: int, then: Callable[[], None]) -> None:
        self.system.wait_until_state(job_id, "Running", "Terminated", "Error", timeout_s=600)
        if self.state(job_id) == "Running":
            then()

    def order(self, *words: object) -> None:
        """A job that was over first is no fault."""
        self.system.admin(*map(str, words), check=False)

    def state(self, job_id: int) -> str:
        return self.system.job(job_id).state

    def resumed(self, job_id: int) -> bool:
        asked = "SELECT 1 FROM job_state_logs WHERE job_id = %s AND job_state = 'Resuming'"
        return bool(self.system.database.execute(asked, (job_id,)))

    def unfinished(self) -> int:
        rows = self.system.database.execute("SELECT count(*) FROM jobs WHERE stopped_at IS NULL")
        return int(str(rows[0][0]))

    # The faults.

    def trouble(self, faults: int, *, long_s: float) -> None:
        """Faults one after the other and at once, until enough have been or all jobs are over."""
        kinds: list[Callable[[str], tuple[float, Callable[[], object]] | None]] = [
            self.sshd_dies, self.session_dies, self.guard_dies, self.runner_dies, self.briefly_cut, self.reboots,
        ]  # fmt: skip
        if long_s:
            kinds.append(lambda host: self.cut_for(host, long_s))
        undone: dict[str, tuple[float, Callable[[], object]]] = {}
        try:
            while faults and self.unfinished():
                for host, (when, undo) in list(undone.items()):
                    if time.monotonic() >= when:
                        del undone[host]
                        undo()
                host, kind = self.luck.choice(self.hosts), self.luck.choice(kinds)
                if host not in undone:
                    faults -= 1
                    begun = time.strftime("%H:%M:%S")
                    later = kind(host)
                    self.told.append(f"{begun} {getattr(kind, '__name__', 'cut_long')} {host}")
                    if later is not None:
                        undone[host] = (time.monotonic() + later[0], later[1])
                time.sleep(self.luck.uniform(0.2, 1.5))
        finally:
            for when, undo in undone.values():
                time.sleep(max(0.0, when - time.monotonic()))
                undo()

    def on(self, host: str, *command: str) -> str:
        """What a command says, whether it finds anything or not."""
        return self.system.box.do("exec", host, "sh", "-c", shlex.join(command) + " || true")

    def sshd_dies(self, host: str) -> None:
        self.on(host, "pkill", "-9", "-x", "sshd")

    def session_dies(self, host: str) -> None:
        self.on(host, "pkill", "-9", "-f", f"[s]ession --spool {self.system.spool}")

    def guard_dies(self, host: str) -> None:
        self.on(host, "pkill", "-9", "-f", f"[g]uard --spool {self.system.spool}")

    def runner_dies(self, host: str) -> None:
        self.system.kill_process("runner")

    def briefly_cut(self, host: str) -> tuple[float, Callable[[], object]]:
        return self.cut_for(host, self.luck.uniform(1, 6))

    def cut_for(self, host: str, seconds: float) -> tuple[float, Callable[[], object]]:
        self.system.box.do("cut", host)
        return seconds, lambda: self.system.box.do("mend", host)

    def reboots(self, host: str) -> tuple[float, Callable[[], object]]:
        self.rebooted.add(host)
        self.system.box.do("kill", host)
        return self.luck.uniform(0, 4), lambda: self.system.box.do("boot", host)

    # What must be so afterwards.

    def wrong(self) -> list[str]:
        """A sentence for each job that is not as it has to be."""
        held = """
            SELECT job_id, array_agg(DISTINCT network_address) FROM allocations
            JOIN resources ON resources @> resource_id GROUP BY job_id
        """
        hosts = {job_id: set(addresses) for job_id, addresses in self.system.database.execute(held)}  # type: ignore[call-overload]
        return [
            f"job {job_id} ({expected.kind}, {', '.join(sorted(hosts.get(job_id, [])))}): {fault}"
            for job_id, expected in self.jobs.items()
            for fault in self.faults_of(job_id, expected, bool(hosts.get(job_id, set()) & self.rebooted))
        ]

    def faults_of(self, job_id: int, expected: Expected, rebooted: bool) -> Iterator[str]:
        job = self.system.job(job_id)
        ran = self.system.work / f"ran.{job_id}"
        times = len(ran.read_text().splitlines()) if ran.exists() else 0
        causes = expected.causes | ({"node_rebooted"} if rebooted else set())
        if job.state not in ("Terminated", "Error"):
            yield f"is {job.state}: {job.message}"
        elif job.end_cause not in causes:
            yield f"ended with {job.end_cause}, exit {job.exit_code}, {job.message!r}"
        elif job.end_cause == "exit" and expected.status is not None and job.exit_code != expected.status << 8:
            yield f"ended with exit {job.exit_code}"
        if times > 1:
            yield f"ran {times} times"
        if times == 0 and job.end_cause in ("exit", "walltime") and expected.kind != "interactive":
            yield "never ran"

    def left(self) -> list[str]:
        """What is still there of any job."""
        number = re.search(r'"number": (\d+)', (self.system.box.directory / "box.json").read_text())
        assert number
        found = []
        for host in self.hosts:
            found += [f"{host} keeps {name}" for name in self.system.entries(host)]
            groups = Path("/sys/fs/cgroup").glob(f"*/oarbox{number[1]}/{host}/oarpy/*/*.*/")
            found += [f"{host} has the group {path}" for path in groups if re.fullmatch(r"\d+\.\d+", path.name)]
            owner = self.system.user.pw_name
            lines = self.on(host, "ps", "-eo", "user:32,args").splitlines()
            found += [f"{host} runs {line}" for line in lines if line.split()[0] == owner]
        return found


@contextmanager
def a_soak(database: TestDatabase, hosts: int, seed: int) -> Iterator[Soak]:
    with box_of(hosts) as box, running_cluster(database, box=box, hosts=hosts, settings=HEALTH) as system:
        soak = Soak(system, [f"c{n}" for n in range(1, hosts + 1)], random.Random(seed), random.Random(seed))
        try:
            yield soak
        finally:
            # pytest shows it where a test failed.
            print(f"seed {seed}", *soak.told, sep="\n")


def soaked(database: TestDatabase, *, hosts: int, jobs: int, faults: int, seed: int, long_s: float) -> None:
    with a_soak(database, hosts, seed) as soak, ThreadPoolExecutor(max(8, jobs // 4)) as people:
        ado = people.submit(soak.submit, people, jobs)
        wait_until(soak.unfinished, timeout_s=30, what="a job is submitted")
        soak.trouble(faults, long_s=long_s)
        done = [each.exception() for each in ado.result(timeout=300)]
        # Which ones are not, and why, is told below.
        with suppress(AssertionError):
            soak.system.wait_until_all_final(list(soak.jobs), timeout_s=OVERHEAD_S + 2 * jobs)
        assert soak.wrong() == []
        assert [error for error in done if error is not None] == []
        # A runner that died had not told every host what is over; its next session does.
        soak.system.wait_until_final(soak.system.oarsub("-l", f"/host={hosts}", "true"), timeout_s=60)
        with suppress(AssertionError):
            wait_until(lambda: soak.left() == [], timeout_s=30)
        assert soak.left() == []


@pytest.mark.soak
def test_many_jobs_on_many_hosts_with_many_faults(database: TestDatabase, pytestconfig: pytest.Config) -> None:
    hosts, jobs, faults, seed = (int(pytestconfig.getoption(name)) for name in ("hosts", "jobs", "faults", "seed"))

    soaked(database, hosts=hosts, jobs=jobs, faults=faults, seed=seed, long_s=60)


def test_forty_jobs_on_three_hosts_with_a_few_faults(database: TestDatabase) -> None:
    soaked(database, hosts=3, jobs=40, faults=6, seed=1, long_s=0)
