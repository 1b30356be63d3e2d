"""What people submit and do to their jobs meanwhile, at random, and how each has to end."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from tests.support.cluster import Cluster

#: A job that begins twice leaves two lines.
ONCE = 'echo $(hostname) >> "ran.$OAR_JOB_ID"; '
#: Ranks that speak with one another for two seconds; the first of them tells what came of it.
RANKS = r"""
#include <mpi.h>
#include <stdio.h>
#include <unistd.h>
int main(int argc, char **argv) {
    int rank, sum = 0, round;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    for (round = 0; round < 20; round++) {
        usleep(100000);
        MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    }
    if (rank == 0)
        printf("sum %d\n", sum);
    MPI_Finalize();
    return 0;
}
"""
# Open MPI takes a host that is named once for all its processors, and so is told how many there are.
# All hosts have the same files: what would be left of one that is killed goes where it is removed.
MPIRUN = (
    "mkdir -p tmp; uniq -c $OAR_NODEFILE | awk '{print $2, \"slots=\" $1}' > hosts.$OAR_JOB_ID;"
    " timeout 120 mpirun.openmpi --mca plm_rsh_agent oarsh --mca btl self,tcp --mca mpi_yield_when_idle 1"
    " --mca orte_tmpdir_base $PWD/tmp --bind-to none -machinefile hosts.$OAR_JOB_ID ./ranks"
)


@dataclass
class Expected:
    """What may become of a job that meets no fault."""

    kind: str
    causes: set[str]
    status: int | None = None
    #: What it writes, but for jobs that need not outlive what severs their hosts from one another.
    said: str | None = None


class People:
    """Those who submit to ``system``."""

    def __init__(self, system: Cluster, chance: random.Random) -> None:
        self.system = system
        self.chance = chance
        self.jobs: dict[int, Expected] = {}
        (system.work / "ranks.c").write_text(RANKS)
        subprocess.run(["mpicc.openmpi", "-o", system.work / "ranks", system.work / "ranks.c"], check=True)

    def submit(self, pool: ThreadPoolExecutor, count: int) -> list[Future[None]]:
        """``count`` jobs, of every kind at least one when there are many; what people do to them meanwhile."""
        kinds = [
            self.plain, self.failing, self.parallel, self.mpi, self.array, self.greedy, self.late, self.killed,
            self.suspended, self.besteffort, self.daemon, self.interactive,
        ]  # fmt: skip
        doings: list[Future[None]] = []
        order = kinds * (count // len(kinds) + 1)
        self.chance.shuffle(order)
        for kind in order:
            if len(self.jobs) >= count:
                break
            after = kind()
            if after is not None:
                doings.append(pool.submit(after))
        return doings

    def add(self, kind: str, causes: str, status: int | None, *words: str, said: str | None = None) -> int:
        job_ids = self.system.oarsub_array(*words)
        assert job_ids, words
        for job_id in job_ids:
            self.jobs[job_id] = Expected(kind, set(causes.split()), status, said)
        return job_ids[0]

    def plain(self) -> None:
        self.add("plain", "exit", 0, ONCE + f"sleep {self.chance.uniform(0.1, 3):.1f}")

    def failing(self) -> None:
        status = self.chance.choice([1, 3, 99, 127])
        self.add("failing", "exit", status, ONCE + f"exit {status}")

    def parallel(self) -> None:
        hosts = self.chance.randint(2, 3)
        look = "timeout 60 oarsh $(tail -1 $OAR_NODEFILE) hostname | grep -qx $(tail -1 $OAR_NODEFILE) && echo there; "
        command = ONCE + look + "sleep 1; exit 5"
        self.add("parallel", "exit", 5, "-l", f"/host={hosts}/core=1", command, said="there\n")

    def mpi(self) -> None:
        hosts, cores = self.chance.choice([(2, 1), (2, 2), (3, 1)])
        ranks = hosts * cores
        words = "-l", f"/host={hosts}/core={cores}", ONCE + MPIRUN
        self.add("MPI", "exit", 0, *words, said=f"sum {ranks * (ranks - 1) // 2}\n")

    def array(self) -> None:
        self.add("array", "exit", 4, "--array", "4", ONCE + "sleep 0.$OAR_ARRAY_INDEX; exit 4")

    def greedy(self) -> None:
        """Takes more memory than it asked for, at once or after a while."""
        command = ONCE + f"sleep {self.chance.choice([0, 2])}; head -c 200M /dev/zero | tail"
        self.add("over memory", "out_of_memory", None, "-l", "/host=1[mem_mib=30]/core=1", command)

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
        self.jobs[job_id] = Expected("interactive", {"exit", "killed", "walltime"}, 8)

        def work() -> None:
            one = person
            for _ in range(5):
                try:
                    one.wait_for(rf"# Connect to OAR job {job_id} via the node \w+\r\n", timeout_s=300)
                    one.type(f"[ -e ran.{job_id} ] || echo $(hostname) >> ran.{job_id}\nexit 8\n")
                    one.end(timeout_s=30)
                except (AssertionError, OSError, subprocess.TimeoutExpired):
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
