"""What the scheduler would decide now about a job that nobody submitted."""

from __future__ import annotations

from dataclasses import replace

from oarpy.database.snapshot import Reading
from oarpy.model.payloads import Estimate
from oarpy.model.request import ResourceRequest
from oarpy.model.resource_grammar import render_wish
from oarpy.model.states import JobId
from oarpy.model.token_types import tokens_of
from oarpy.scheduling.decide import decide
from oarpy.scheduling.explain import sentence
from oarpy.scheduling.plan import Decision, Doom, Grant, Postpone, Predict, Ranges, Refuse, Start
from oarpy.scheduling.snapshot import Snapshot, TokenCount, Topology, WaitingJob

#: How many of the jobs that wait are planned for one answer; it takes some tenths of a second.
MOST_PLANNED = 2000
#: Of the first job that does not exist: behind all others.
NOBODY = JobId(2**62)


def with_tokens(reading: Reading, job: WaitingJob) -> tuple[Reading, tuple[str, ...]]:
    """The same with enough of the tokens that ``job`` needs and nobody has counted lately; which these are."""
    wanted = tokens_of(job.types)
    counts = reading.snapshot.tokens
    unknown = {token: TokenCount(1 << 31) for token in wanted if token not in counts or counts[token].free is None}
    if not unknown:
        return reading, ()
    return reading._replace(snapshot=replace(reading.snapshot, tokens={**counts, **unknown})), tuple(unknown)


def estimates(reading: Reading, job: WaitingJob, *, reservation: bool = False) -> tuple[Estimate, ...]:
    """One estimate for each alternative of ``job``, as if it were the only one.

    ``reservation``: it is one, to start at its ``not_before_s``.
    """
    snapshot = reading.snapshot
    alternatives = job.request.alternatives
    supposed = tuple(
        replace(job, job_id=JobId(NOBODY + number), request_id=-1 - number, request=ResourceRequest((alternative,)))
        for number, alternative in enumerate(alternatives)
    )
    plan_first = snapshot.limits.plan_first
    limits = replace(snapshot.limits, plan_first=MOST_PLANNED if plan_first is None else min(plan_first, MOST_PLANNED))
    joined = (
        replace(snapshot, requested=(*snapshot.requested, *supposed), limits=limits)
        if reservation
        else replace(snapshot, waiting=(*snapshot.waiting, *supposed), limits=limits)
    )
    plan = decide(joined, reading.platform, supposed={one.job_id for one in supposed})
    decisions = {decision.job_id: decision for decision in plan.decisions}
    return tuple(
        Estimate(render_wish(alternative), start_s, alternative.walltime_s, hosts, reason)
        for one, alternative in zip(supposed, alternatives, strict=True)
        for start_s, hosts, reason in [_told(decisions[one.job_id], snapshot)]
    )


def _told(decision: Decision, snapshot: Snapshot) -> tuple[int | None, tuple[str, ...], str]:
    match decision:
        case Start():
            return snapshot.now_s, hosts_of(snapshot.topology, decision.resources), ""
        case Grant():
            return decision.start_s, hosts_of(snapshot.topology, decision.resources), ""
        case Predict():
            return decision.start_s, hosts_of(snapshot.topology, decision.resources), sentence(decision.why)
        case Postpone() | Refuse() | Doom():
            return None, (), sentence(decision.why)
    return None, (), "the scheduler cannot decide on it"


def hosts_of(topology: Topology, ranges: Ranges) -> tuple[str, ...]:
    """The hosts of these resources, in the site's order of preference."""
    addresses = topology.properties["network_address"]
    chosen = (
        addresses[position]
        for position, resource_id in enumerate(topology.ids)
        if any(begin <= resource_id < end for begin, end in ranges)
    )
    return tuple(str(address) for address in dict.fromkeys(chosen) if address is not None)
