"""What a pass wants written, and the one transaction that writes it.

Everything is looked at again there: a plan is made of facts that may have changed
since they were read.  What no longer holds is left out, and decided again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeVar

from sqlalchemy.engine import Connection

from oarpy.automata.job import JobEvent
from oarpy.database import accounting, energy, events, jobs, plans, reservations, walltimes
from oarpy.database.events import Event
from oarpy.database.plans import Prediction, Said, Wished
from oarpy.database.wake import Reader, wake
from oarpy.errors import Stale
from oarpy.model.durations import render_duration
from oarpy.model.states import EndCause, JobId
from oarpy.modules.context import Context
from oarpy.scheduling.explain import RESERVATION_NO_NODE, sentence
from oarpy.scheduling.plan import Begin, Doom, Energy, Grant, Kill, Refuse, SetAside, Start
from oarpy.scheduling.snapshot import Topology
from oarpy.scheduling.usage import Account
from oarpy.scheduling.walltimes import Longer
from oarpy.settings import Energy as EnergySettings

#: Of how many planned starts that a plan puts off there is an event.
MOST_TOLD = 1000
#: A reservation that starts so late is not said to be late: a pass comes within seconds.
PUNCTUAL_S = 5
_Chosen = TypeVar("_Chosen", Start, Grant)


class EnergyTold(NamedTuple):
    """What is to be told of hosts' sleep: nothing where ``plan`` is None."""

    plan: Energy | None


@dataclass(slots=True)
class Changes:
    """What a plan wants written."""

    starts: list[Start] = field(default_factory=list)
    kills: Sequence[Kill] = ()
    dooms: list[Doom] = field(default_factory=list)
    set_aside: list[SetAside] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)
    refusals: list[Refuse] = field(default_factory=list)
    begins: list[Begin] = field(default_factory=list)
    #: Reservations that were told to wait for resources.
    incomplete: set[JobId] = field(default_factory=set)
    predictions: list[Prediction] = field(default_factory=list)
    longer: Sequence[Longer] = ()
    resumes: Sequence[JobId] = ()
    #: Jobs whose planned start is later than what they were told, which is given.
    put_off: Sequence[tuple[JobId, Said]] = ()
    #: The requests that were decided on, lest a job be judged by what it no longer asks for.
    asked: Mapping[JobId, int] = field(default_factory=dict)
    #: Of the jobs that start or are granted, those that had alternatives.
    moldable: Set[JobId] = frozenset()
    #: What people are told besides; None where that has not changed.
    karmas: Mapping[Account, float] | None = None
    priorities: Mapping[JobId, float] | None = None
    energy: EnergyTold | None = None

    def __bool__(self) -> bool:
        if self.karmas is not None or self.priorities is not None or self.energy is not None:
            return True
        written = (self.starts, self.kills, self.dooms, self.set_aside, self.predictions, self.longer, self.resumes)
        return any(written) or self.answered

    @property
    def answered(self) -> bool:
        """Whether somebody who asked for a reservation is to be told."""
        return bool(self.grants or self.refusals)


class Written(NamedTuple):
    """What of it came true."""

    started: Sequence[JobId] = ()
    doomed: Sequence[JobId] = ()
    kills: Sequence[Wished] = ()
    resumed: Sequence[JobId] = ()
    granted: Sequence[JobId] = ()
    refused: Sequence[JobId] = ()


def write(ctx: Context, changes: Changes, topology: Topology, *, karmas_told: bool) -> Written:
    """Write what still holds, in one transaction; ``karmas_told``: jobs that start keep the karma they have.

    Raises:
        Stale: the resources are no longer those that the plan was made for.
    """
    within = ctx.settings.nodes.order_timeout
    with ctx.transaction(durable=changes.answered) as conn:
        if (changes.starts or changes.grants) and plans.lock_topology(conn) != topology.version:
            raise Stale("the resources have changed since they were read")
        if changes.karmas is not None:
            accounting.tell_karmas(conn, changes.karmas)
        # They come before all that waits, in the tables as well.
        resumed = plans.resume(conn, changes.resumes, within)
        started = plans.allocate(conn, changes.starts, changes.asked)
        plans.tell_chosen(conn, _moldable(changes.starts, changes, started))
        if started and karmas_told:
            accounting.keep_karmas(conn, started)
        kills = plans.kill(conn, changes.kills, within=within)
        if kills:
            wake(conn, Reader.ALMIGHTY)
        doomed = _doom(conn, changes.dooms, changes.asked)
        longer = _prolong(conn, changes.longer, within)
        if started or resumed or longer or any(one.saves for one in kills):
            wake(conn, Reader.RUNNER)
        granted, refused = _answer(conn, changes, ctx.settings.reservations.validation_hook)
        running = frozenset(started)
        begun = [one for one in changes.begins if one.job_id in running]
        reservations.begin(conn, begun)
        plans.predict(conn, changes.predictions)
        if changes.priorities is not None:
            plans.tell_priorities(conn, changes.priorities)
        if changes.energy is not None:
            _tell_energy(conn, changes.energy.plan, ctx.settings.energy)
        told = [*longer, *_events_of(changes, kills, doomed)]
        events.append(conn, [*told, *(event for one in begun for event in _events_at_start(one, changes, topology))])
    return Written(started, doomed, kills, resumed, granted, refused)


def _moldable(decisions: Iterable[_Chosen], changes: Changes, written: Collection[JobId]) -> list[_Chosen]:
    """Those of moldable jobs, as far as they were ``written``."""
    if not changes.moldable:
        return []
    return [one for one in decisions if one.job_id in changes.moldable and one.job_id in written]


def _tell_energy(conn: Connection, plan: Energy | None, settings: EnergySettings) -> None:
    if plan is None:
        energy.forget(conn)
    else:
        energy.write(conn, plan, idle=settings.idle_time, least=settings.sleep_time)


def _doom(conn: Connection, dooms: Sequence[Doom], asked: Mapping[JobId, int]) -> list[JobId]:
    """End jobs that can never start, each with its reason."""
    alike: dict[tuple[str, EndCause], list[JobId]] = {}
    for doom in dooms:
        alike.setdefault((sentence(doom.why), doom.cause), []).append(doom.job_id)
    doomed: list[JobId] = []
    for (message, cause), job_ids in alike.items():
        values = {"message": message, "end_cause": cause}
        parameters = plans.unedited(asked, job_ids)
        doomed += jobs.transition(
            conn, job_ids, JobEvent.DOOMED, values=values, parameters=parameters, only=plans.UNEDITED
        )
    plans.forget(conn, doomed)
    return doomed


def _prolong(conn: Connection, longer: Sequence[Longer], within: timedelta) -> list[Event]:
    """Give running jobs more walltime; the events that tell of it."""
    extras = [(one.job_id, timedelta(seconds=one.extra_s)) for one in longer]
    granted = frozenset(walltimes.grant(conn, extras, "scheduler", within))
    return [Event("WALLTIME_GRANTED", one.job_id, description=_told_of(one)) for one in longer if one.job_id in granted]


def _told_of(longer: Longer) -> str:
    more = f"+{render_duration(longer.extra_s)}"
    if not longer.delayed:
        return more
    return f"{more}; {longer.delayed} jobs start later, by {render_duration(longer.delay_s)} at most"


def _answer(conn: Connection, changes: Changes, program: str | None) -> tuple[list[JobId], list[JobId]]:
    """Tell those who asked for reservations; which were accepted, and which refused."""
    if not changes.answered:
        return [], []
    granted = reservations.grant(conn, changes.grants)
    plans.tell_chosen(conn, _moldable(changes.grants, changes, granted))
    alike: dict[str, list[JobId]] = {}
    for one in changes.refusals:
        alike.setdefault(sentence(one.why), []).append(one.job_id)
    refused = [job_id for reason, job_ids in alike.items() for job_id in reservations.refuse(conn, job_ids, reason)]
    if program is not None:
        reservations.hook(conn, program, granted, accepted=True)
        reservations.hook(conn, program, refused, accepted=False)
    reservations.tell(conn, [*granted, *refused])
    return granted, refused


def _events_of(changes: Changes, kills: Sequence[Wished], doomed: Sequence[JobId]) -> Iterator[Event]:
    for kill in kills:
        yield Event("BESTEFFORT_KILL", kill.job_id, description=f"for job {kill.for_job}")
        if kill.saves:
            yield Event("CHECKPOINT", kill.job_id, description="it has to make room")
    for aside in changes.set_aside:
        yield Event("SCHEDULER_JOB_SET_ASIDE", aside.job_id, description=aside.error)
    over = frozenset(doomed)
    for doom in changes.dooms:
        if doom.why.code == RESERVATION_NO_NODE and doom.job_id in over:
            yield Event("RESERVATION_NO_NODE", doom.job_id, description=sentence(doom.why))
    now_said = {one.job_id: one.said for one in changes.predictions} if changes.put_off else {}
    for job_id, said in changes.put_off[:MOST_TOLD]:
        later = now_said.get(job_id)
        if later is not None and later.start_s is not None and said.start_s is not None:
            told = f"planned for {_instant(later.start_s)}, no longer for {_instant(said.start_s)}"
            yield Event("SCHEDULER_START_PUT_OFF", job_id, description=told)


def _instant(epoch_s: int) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _events_at_start(begun: Begin, changes: Changes, topology: Topology) -> Iterator[Event]:
    """What a reservation that starts lacks of what was promised, or lacked for a while."""
    if not begun.missing and begun.job_id in changes.incomplete:
        what = f"all of the reserved resources are ready, {begun.late_s} s after its start"
        yield Event("GET_RESOURCES_BACK", begun.job_id, description=what)
    if begun.missing:
        addresses = topology.properties["network_address"]
        missing = [
            str(addresses[position])
            for position, resource_id in enumerate(topology.ids)
            if any(low <= resource_id < high for low, high in begun.missing)
        ]
        what = f"{len(missing)} of the reserved resources were not ready"
        hosts = tuple(dict.fromkeys(host for host in missing if host))
        yield Event("SCHEDULER_REDUCE_NB_NODES_FOR_RESERVATION", begun.job_id, hosts, what)
    if begun.late_s > PUNCTUAL_S:
        what = f"it starts {begun.late_s} s late and lasts {begun.start.walltime_s} s, to end when it was promised to"
        yield Event("REDUCE_RESERVATION_WALLTIME", begun.job_id, description=what)
