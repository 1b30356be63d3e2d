"""What people were last told of waiting jobs, so that only what differs is written.

The first turn of a process reads it from the tables; only it is the scheduler's, who
tells.  What it forgets with its death is told once more by the next one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from sqlalchemy.engine import Connection

from oarpy.database import plans
from oarpy.database.plans import Prediction, Said
from oarpy.model.ranges import parsed_ranges, written_ranges
from oarpy.model.states import JobId, Replan
from oarpy.modules.plan_writing import Changes, EnergyTold
from oarpy.scheduling.explain import sentence
from oarpy.scheduling.plan import Energy, Plan, Postpone, Predict, Why
from oarpy.scheduling.snapshot import Promise, Snapshot
from oarpy.scheduling.usage import Account


class Told:
    """Predictions, and the karmas, priorities and hosts' sleep that are told beside them."""

    def __init__(self) -> None:
        self._said: dict[JobId, Said] = {}
        #: The places that jobs were told in the last plan that was written, in its order.
        self._places: dict[JobId, Promise] = {}
        #: None as long as this process has told nothing.
        self._karmas: Mapping[Account, float] | None = None
        self._priorities: Mapping[JobId, float] | None = None
        self._energy: Energy | None = None
        self._energy_told = False

    def read(self, conn: Connection) -> None:
        """Learn from the tables what stands there."""
        self._said = plans.said(conn)
        # What is told of a job goes with its prediction, and that may have been made anew.
        if self._priorities:
            self._priorities = None

    def of(self, job_id: JobId) -> Said | None:
        return self._said.get(job_id)

    def promises(self, snapshot: Snapshot) -> dict[JobId, Promise]:
        """What binds the next plan: what was told to jobs of queues that keep it, in the order of the last plan.

        What was told to a job that does not wait binds nobody when it waits again: others have moved to its place.
        """
        there = {job.job_id for jobs in (snapshot.waiting, snapshot.reserved, snapshot.requested) for job in jobs}
        self._said = {job_id: said for job_id, said in self._said.items() if job_id in there}
        keeping = {queue.name for queue in snapshot.queues if queue.replan is Replan.EARLIER}
        waiting = {
            job.job_id: job.request_id for job in snapshot.waiting if job.queue in keeping and not job.besteffort
        }
        found = {}
        for job_id in dict.fromkeys((*self._places, *self._said)):
            said = self._said.get(job_id)
            if said is None or said.start_s is None or job_id not in waiting:
                continue
            if said.request_id != waiting[job_id]:
                # It was edited: what it was told was told of something else.
                continue
            place = self._places.get(job_id)
            if place is None or place.start_s != said.start_s:
                place = Promise(said.start_s, said.alternative or 0, parsed_ranges(said.resources or "{}"))
            found[job_id] = place
        return found

    def news(self, decision: Predict | Postpone, asked: Mapping[JobId, int]) -> Prediction | None:
        """What is to be told of a job; None where it was. ``asked`` are the requests that were decided on."""
        said = _said(decision, asked)
        if self._said.get(decision.job_id) == said:
            return None
        return prediction(decision.job_id, said, decision.why)

    def put_off(self, job_ids: Iterable[JobId]) -> list[tuple[JobId, Said]]:
        """What these jobs were told, which does not hold."""
        return [(job_id, self._said[job_id]) for job_id in job_ids if job_id in self._said]

    def add_karmas(self, changes: Changes, karmas: Mapping[Account, float]) -> None:
        """Have these told where they differ, as the next two do."""
        if karmas != self._karmas:
            changes.karmas = karmas

    def add_priorities(self, changes: Changes, priorities: Mapping[JobId, float]) -> None:
        if priorities != self._priorities:
            changes.priorities = priorities

    def add_energy(self, changes: Changes, energy: Energy | None) -> None:
        if not (self._energy_told and energy == self._energy):
            changes.energy = EnergyTold(energy)

    def tells_karmas(self, changes: Changes) -> bool:
        """Whether there are karmas to tell when these changes are written."""
        return bool(self._karmas if changes.karmas is None else changes.karmas)

    def note_summaries(self, changes: Changes) -> None:
        """What is told beside predictions has been written."""
        if changes.karmas is not None:
            self._karmas = changes.karmas
        if changes.priorities is not None:
            self._priorities = changes.priorities
        if changes.energy is not None:
            self._energy, self._energy_told = changes.energy.plan, True

    def note(self, predictions: Iterable[Prediction], gone: Iterable[JobId]) -> None:
        """These predictions have been written; of those that are ``gone`` nothing more is told."""
        for one in predictions:
            self._said[one.job_id] = one.said
        for job_id in gone:
            self._said.pop(job_id, None)

    def note_places(self, plan: Plan) -> None:
        """The places of a plan have been told."""
        placed = plan.promises()
        self._places = placed | {job_id: told for job_id, told in self._places.items() if job_id not in placed}
        self._forget_places_but(self._said)

    def note_more_places(self, plan: Plan) -> None:
        """The same for jobs that came behind all others."""
        self._places |= plan.promises()

    def _forget_places_but(self, job_ids: Collection[JobId]) -> None:
        self._places = {job_id: told for job_id, told in self._places.items() if job_id in job_ids}


def prediction(job_id: JobId, said: Said, why: Why) -> Prediction:
    return Prediction(job_id, said, why.numbers, sentence(why))


def _said(decision: Predict | Postpone, asked: Mapping[JobId, int]) -> Said:
    request_id = asked.get(decision.job_id)
    if isinstance(decision, Postpone):
        return Said(None, None, None, decision.why.code, request_id)
    resources = written_ranges(decision.resources)
    return Said(decision.start_s, decision.alternative, resources, decision.why.code, request_id)
