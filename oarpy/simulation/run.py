"""Virtual time: submissions and ends happen, and after each instant at which something did there is a pass.

The pass is the server's own, `oarpy.scheduling.decide`.  What the server does between
passes takes no time here: a job starts when that is decided, ends when it is done or
at its walltime, and one that must go for another is gone when its grace is over.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import process_time

from oarpy.model.states import JobId
from oarpy.scheduling.decide import decide
from oarpy.scheduling.plan import Doom, Kill, Plan, Predict, Ranges, SetAside, Start
from oarpy.scheduling.platform import Platform
from oarpy.scheduling.snapshot import HeldJob, Limits, Promise, Snapshot, WaitingJob
from oarpy.simulation.workload import COUNTED, Submission, Workload


@dataclass(frozen=True, slots=True)
class Lived:
    """A job from its submission to its end; ``cut`` when it was ended before it was done.

    ``cores`` is how many of its resources count: of a machine that has licences too, the cores alone.
    """

    job_id: JobId
    submitted_s: int
    start_s: int
    end_s: int
    resources: Ranges
    cores: int
    cut: bool = False


@dataclass(slots=True)
class Course:
    """What became of a workload; ``stayed`` are the jobs that never started."""

    lived: list[Lived] = field(default_factory=list)
    stayed: list[JobId] = field(default_factory=list)
    passes: int = 0
    cpu_s: float = 0.0


class _Site:
    """The state between two passes."""

    def __init__(self, workload: Workload, limits: Limits) -> None:
        self._workload = workload
        self._limits = limits
        self._platform = Platform(workload.topology)
        self._counted = self._platform.of_types(COUNTED)
        self._to_come = sorted(workload.submissions, key=lambda one: one.job.submitted_s, reverse=True)
        self._submitted: dict[JobId, Submission] = {}
        self._waiting: dict[JobId, WaitingJob] = {}
        self._held: dict[JobId, HeldJob] = {}
        #: (when, job): ends to come; of a job that must go earlier than it would, the first one counts.
        self._ends: list[tuple[int, JobId]] = []
        self._next_start_s: int | None = None
        self._promises: dict[JobId, Promise] = {}
        self.course = Course()

    def turn(self) -> bool:
        """Let the next instant come at which something happens; False when there is none."""
        instants = [self._ends[0][0]] if self._ends else []
        if self._to_come:
            instants.append(self._to_come[-1].job.submitted_s)
        if self._next_start_s is not None:
            instants.append(self._next_start_s)
        if not instants:
            self.course.stayed += self._waiting
            return False
        now_s = min(instants)
        while self._ends and self._ends[0][0] == now_s:
            self._end(heapq.heappop(self._ends)[1], now_s)
        while self._to_come and self._to_come[-1].job.submitted_s == now_s:
            submission = self._to_come.pop()
            self._submitted[submission.job.job_id] = submission
            self._waiting[submission.job.job_id] = submission.job
        self._next_start_s = None
        if self._waiting:
            self._follow(self._pass(now_s), now_s)
        return True

    def _pass(self, now_s: int) -> Plan:
        snapshot = Snapshot(
            now_s,
            self._workload.topology,
            self._workload.queues,
            tuple(self._waiting.values()),
            tuple(self._held.values()),
            self._limits,
            quotas=self._workload.quotas,
            promises=self._promises,
        )
        begun = process_time()
        plan = decide(snapshot, self._platform)
        self.course.cpu_s += process_time() - begun
        self.course.passes += 1
        return plan

    def _follow(self, plan: Plan, now_s: int) -> None:
        self._promises = {}
        planned = []
        for decision in plan.decisions:
            match decision:
                case Start():
                    self._start(decision, now_s)
                case Predict(job_id, alternative, start_s, _, resources):
                    planned.append(start_s)
                    self._promises[job_id] = Promise(start_s, alternative, resources)
                case SetAside(job_id):
                    self._give_up(job_id)
                case Doom(job_id):
                    self._give_up(job_id)
        for kill in plan.kills:
            self._kill(kill, now_s)
        if plan.look_again_s is not None:
            planned.append(plan.look_again_s)
        # Not before the next second: what ends now has ended in this pass.
        self._next_start_s = max(min(planned), now_s + 1) if planned else None

    def _give_up(self, job_id: JobId) -> None:
        del self._waiting[job_id], self._submitted[job_id]
        self.course.stayed.append(job_id)

    def _start(self, start: Start, now_s: int) -> None:
        job = self._waiting.pop(start.job_id)
        runs_s = min(self._submitted[start.job_id].runs_s, start.walltime_s)
        self._held[start.job_id] = HeldJob(
            job_id=start.job_id,
            queue=job.queue,
            resources=start.resources,
            end_s=now_s + start.walltime_s,
            started_s=now_s,
            user=job.user,
            project=job.project,
            name=job.name,
            types=job.types,
            besteffort=job.besteffort,
        )
        heapq.heappush(self._ends, (now_s + runs_s, start.job_id))

    def _kill(self, kill: Kill, now_s: int) -> None:
        until_s = now_s + max(self._limits.kill_grace_s, 1)
        self._held[kill.job_id] = replace(
            self._held[kill.job_id], killing_until_s=until_s, killed_for=kill.for_job, end_s=until_s
        )
        heapq.heappush(self._ends, (until_s, kill.job_id))

    def _end(self, job_id: JobId, now_s: int) -> None:
        held = self._held.pop(job_id, None)
        if held is None or held.started_s is None:
            return
        submission = self._submitted.pop(job_id)
        done = now_s - held.started_s >= submission.runs_s
        dates = submission.job.submitted_s, held.started_s, now_s
        cores = (self._platform.bits(held.resources) & self._counted).bit_count()
        self.course.lived.append(Lived(job_id, *dates, held.resources, cores, cut=not done))


def simulate(workload: Workload, limits: Limits, progress: Callable[[int], None] | None = None) -> Course:
    """Let all of a workload happen; ``progress`` is told after each instant how many jobs have ended."""
    site = _Site(workload, limits)
    while site.turn():
        if progress is not None:
            progress(len(site.course.lived))
    return site.course
