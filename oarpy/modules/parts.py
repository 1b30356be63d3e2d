"""Jobs on several hosts, as far as a runner has heard of them.

The head runs the command.  The other hosts make a part of the job each, before the
head is told of the launch; they keep it until the head says that the job is over,
and then clean up, before the job is closed.  Of this the tables
know which hosts they are (``jobs.other_hosts``) and which of them have ended theirs
(``over_hosts``): hosts do everything once however often they are told, so a runner that
knows nothing asks the rest of them again.

A host that cannot be asked, or takes too long, keeps what the job holds there, and what
belongs to no host.  The rest is free when it is over there (``allocations.returned``).

All times are of this process's monotonic clock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from threading import Lock

from oarpy.database.events import Event
from oarpy.model.states import EndCause, JobId
from oarpy.ports.executor import Attempt


@dataclass(eq=False, slots=True)
class Parallel:
    """One attempt of a job on several hosts."""

    attempt: Attempt
    head: str
    others: tuple[str, ...]
    #: When what is waited for now must have come: parts made, or cleaned up.
    deadline: float
    made: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    #: Those of them that did not say so themselves: they are told, and not waited for.
    doubted: set[str] = field(default_factory=set)
    #: Of how many that are gone the resources were given back, while others were waited for.
    returned: int | None = None
    #: Those of them that keep what they know of a launch until it is decided on.
    kept: set[str] = field(default_factory=set)
    #: Why it is without the first of them.
    loss: EndCause | None = None
    #: Hosts whose present session has been told to clean up, or to give the attempt up.
    told: set[str] = field(default_factory=set)
    head_told: bool = False
    #: Its command must not begin; ``cause`` is how the job ends, None when it goes back to its place in the queue.
    given_up: bool = False
    cause: EndCause | None = None
    #: The head has promised that the command will not begin.
    head_gave_up: bool = False
    begun: bool = False
    #: It is over on its head, and the others clean up.
    cleaning: bool = False
    #: Hosts that were waited for long enough.
    late: set[str] = field(default_factory=set)

    @property
    def job_id(self) -> JobId:
        return self.attempt.job_id

    @property
    def is_made(self) -> bool:
        """Whether the command may begin."""
        return not self.given_up and not self.cleaning and self.made.issuperset(self.others)

    @property
    def is_left(self) -> bool:
        """Whether nothing of it is on any host but the head."""
        return self.gone.issuperset(self.others)

    def copy(self) -> Parallel:
        """The same, which does not change with this one."""
        twin = replace(self)
        for name in (one.name for one in fields(self)):
            if isinstance(value := getattr(self, name), set):
                setattr(twin, name, value.copy())
        return twin

    def give_up(self, cause: EndCause | None, deadline: float) -> None:
        """Let the command not begin, unless that was decided before."""
        if not self.given_up:
            self.given_up, self.cause = True, cause
            self.deadline = deadline
            self.late.clear()

    def clean(self, deadline: float) -> None:
        """Let the others clean up, unless they do already."""
        if not self.cleaning:
            self.cleaning = True
            self.deadline = deadline
            self.late.clear()

    def to_clean(self) -> list[str]:
        """The hosts that have to be told to clean up, or asked whether there is anything."""
        return [host for host in self.others if host not in self.told and host not in self.gone - self.doubted]

    def newly_late(self, now: float, lost: Collection[str] = ()) -> list[str]:
        """Those that were to have made their part, or cleaned up, by ``now``, or are ``lost``; each is named once."""
        done = self.gone if self.given_up or self.cleaning else self.made
        due = self.others if now >= self.deadline else lost
        late = [host for host in self.others if host in due and host not in done and host not in self.late]
        self.late.update(late)
        return late


class Parts:
    """The jobs on several hosts of one runner."""

    def __init__(self, prepare_s: float) -> None:
        self._prepare_s = prepare_s
        self._jobs: dict[JobId, Parallel] = {}
        #: Within `as_written`, those that were asked for as they were before; None where one was not known.
        self._before: dict[JobId, Parallel | None] | None = None
        #: Sessions end while another thread writes.
        self._lock = Lock()

    @contextmanager
    def as_written(self) -> Iterator[None]:
        """What changes within it is put back where it fails: then no table says so, and nobody was told."""
        self._before = {}
        try:
            yield
        except BaseException:
            with self._lock:
                for job_id, parallel in self._before.items():
                    if parallel is None:
                        self._jobs.pop(job_id, None)
                    else:
                        self._jobs[job_id] = parallel
            raise
        finally:
            self._before = None

    def unbegun(self) -> Iterator[Parallel]:
        """Those whose command is still to begin, or to be given up."""
        for parallel in list(self._jobs.values()):
            if not (parallel.begun or parallel.cleaning):
                self._remember(parallel.job_id)
                yield parallel

    def of(self, attempt: Attempt, head: str, others: Collection[str], now: float) -> Parallel:
        """What is known of this attempt; nothing, when it is the first that is heard of it."""
        self._remember(attempt.job_id)
        known = self._jobs.get(attempt.job_id)
        if known is None or known.attempt != attempt:
            known = self._jobs[attempt.job_id] = Parallel(attempt, head, tuple(others), now + self._prepare_s)
        return known

    def get(self, job_id: JobId) -> Parallel | None:
        self._remember(job_id)
        return self._jobs.get(job_id)

    def forget(self, job_ids: Iterable[JobId]) -> None:
        """These are over, or wait again."""
        for job_id in job_ids:
            self._jobs.pop(job_id, None)

    def session_ended(self, host: str) -> None:
        """What ``host`` was told is told to its next session."""
        with self._lock:
            before = [job for job in (self._before or {}).values() if job is not None]
            for job in [*self._jobs.values(), *before]:
                job.told.discard(host)
                if job.head == host:
                    job.head_told = False

    def _remember(self, job_id: JobId) -> None:
        with self._lock:
            if self._before is not None and job_id not in self._before:
                known = self._jobs.get(job_id)
                self._before[job_id] = None if known is None else known.copy()


def late_events(job: Parallel, hosts: Collection[str]) -> list[Event]:
    """What is written of hosts that did not make their parts in time."""
    said = "it has not made room for the job in time"
    return [
        *(Event("CPUSET_ERROR", job.job_id, (host,), said) for host in hosts),
        *(Event("LOG_SUSPECTED", hosts=(host,), description=f"job {job.job_id}: {said}") for host in hosts),
    ]


def lost_part(job_id: JobId, host: str, cause: EndCause) -> Event:
    """What is written when a running job has lost one of its hosts."""
    why = _WHY_LOST.get(cause, "what kept its part of the job there has ended")
    return Event("PART_LOST", job_id, (host,), f"{host} is not in the job any more: {why}")


_WHY_LOST: Mapping[EndCause, str] = {
    EndCause.NODE_REBOOTED: "it was rebooted",
    EndCause.FENCED: "nobody reached it, and it has killed its part",
}
