"""Why: what is in the way of one waiting job, as data.

The core is asked on a snapshot of this moment, the jobs before it placed as they
were told.  Nothing is written.  The answer is a document of its own, described in
docs/reference.md; whoever prints it makes the sentences.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from oarpy.actions.prepared import Prepared
from oarpy.actions.what_if import hosts_of
from oarpy.database.snapshot import Reading
from oarpy.errors import RequestRefused, SyntaxRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.payloads import JobSelection
from oarpy.model.request import Alternative
from oarpy.model.resource_grammar import render_wish
from oarpy.model.states import JobId
from oarpy.scheduling.explain import SET_ASIDE, sentence
from oarpy.scheduling.findings import AlternativeFacts, Change, Findings, InTheWay
from oarpy.scheduling.inquiry import inquire
from oarpy.scheduling.plan import Doom, Postpone, Predict, Start, Why
from oarpy.scheduling.snapshot import Promise

#: How long the core may look for an answer; everybody else's requests wait for it.
BUDGET_S = 0.25


class Outlook(NamedTuple):
    """What a pass would know, and what was told of waiting jobs."""

    reading: Reading
    told: Mapping[JobId, Promise]


@dataclass(frozen=True, slots=True)
class Explained:
    """The answer; ``document`` is JSON."""

    document: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"ok": True, **self.document}


def prepare_why(payload: object, look: Callable[[], Outlook]) -> Prepared:
    """Look into one job.

    Raises:
        RequestRefused: with one sentence for the user.
    """
    selection = JobSelection.from_json(payload)
    if len(selection.job_ids) != 1 or selection.array_ids:
        raise SyntaxRefused("one job can be asked about at a time")
    answer = Explained(explained(look(), selection.job_ids[0]))
    return Prepared(lambda _: answer, rows=0)


def explained(outlook: Outlook, job_id: JobId) -> dict[str, Any]:
    """What is in the way of the job; raises ``RequestRefused`` when it does not wait."""
    reading, told = outlook
    snapshot = reading.snapshot
    document: dict[str, Any] = {"job_id": job_id, "now": snapshot.now_s}
    if job_id in reading.unreadable:
        return document | _set_aside(f"its request cannot be read: {reading.unreadable[job_id]}")
    give_up = time.monotonic() + BUDGET_S
    findings = inquire(snapshot, reading.platform, job_id, told, lambda: time.monotonic() < give_up)
    if findings is None:
        raise RequestRefused(f"job {job_id} does not wait for resources", exit_status=ExitStatus.REFUSED)
    place = told.get(job_id)
    document["told_start"] = place.start_s if place is not None else None
    match findings.decision:
        case Start() as start:
            document |= {"start": snapshot.now_s, "hosts": hosts_of(snapshot.topology, start.resources)}
            document |= {"alternative": start.alternative, "walltime": start.walltime_s, **_reason(None)}
        case Predict() as plan:
            document |= {"start": plan.start_s, "hosts": hosts_of(snapshot.topology, plan.resources)}
            document |= {"alternative": plan.alternative, "walltime": plan.walltime_s, **_reason(plan.why)}
        case Postpone(_, why) | Doom(_, why):
            document |= {"start": None, "hosts": [], "alternative": None, "walltime": None, **_reason(why)}
        case _:
            return document | _set_aside("its events have the details")
    return document | _surroundings(findings)


def _set_aside(detail: str) -> dict[str, Any]:
    return {
        "start": None,
        "code": SET_ASIDE,
        "numbers": {},
        "reason": f"deciding on it failed, which is a fault of the server; {detail}",
    }


def _reason(why: Why | None) -> dict[str, Any]:
    if why is None:
        return {"code": None, "numbers": {}, "reason": None}
    return {"code": why.code, "numbers": why.numbers, "reason": sentence(why)}


def _surroundings(findings: Findings) -> dict[str, Any]:
    return {
        "alternatives": [_alternative(each) for each in findings.alternatives],
        "in_question": findings.in_question,
        "holding": {
            "jobs": findings.holding_jobs,
            "resources": findings.holding_resources,
            "last": _jobs(findings.holders),
        },
        "before": {
            "jobs": findings.before,
            "without_plan": findings.unplanned,
            "taking": findings.taking_jobs,
            "last": _jobs(findings.takers),
        },
        "reserved": {"jobs": findings.reserved_jobs, "last": _jobs(findings.reservations)},
        "changes": [_change(each) for each in findings.changes],
        "complete": findings.complete,
    }


def _alternative(facts: AlternativeFacts) -> dict[str, Any]:
    return {
        "request": render_wish(facts.alternative),
        "walltime": facts.alternative.walltime_s,
        "start": facts.start_s,
        "enough_at": facts.enough_s,
        "refusal": None if facts.refusal is None else sentence(facts.refusal),
        "groups": [
            {
                "request": render_wish(Alternative((group,), facts.alternative.walltime_s)).partition(",walltime")[0],
                "filtered": group.filter is not None,
                "levels": [
                    {
                        "property": level.property,
                        "needed": level.needed,
                        "existing": level.existing,
                        "matching": level.matching,
                        "able": level.able,
                        "free": level.free,
                        "staying": level.staying,
                    }
                    for level in levels
                ],
            }
            for group, levels in zip(facts.alternative.groups, facts.groups, strict=False)
        ],
    }


def _jobs(found: Iterable[InTheWay]) -> list[dict[str, Any]]:
    return [
        {"job_id": one.job_id, "user": one.user, "start": one.start_s, "end": one.end_s, "resources": one.resources}
        for one in found
    ]


def _change(change: Change) -> dict[str, Any]:
    document: dict[str, Any] = {
        "kind": change.kind,
        "start": change.start_s,
        "alternative": change.index,
        "request": render_wish(change.alternative),
        "walltime": change.alternative.walltime_s,
    }
    if change.group is not None and change.level is not None:
        asked = change.wanted.groups[change.group].levels[change.level]
        level = change.alternative.groups[change.group].levels[change.level]
        document |= {"group": change.group, "level": change.level}
        if change.beside is None:
            document |= {"of": level.property, "count": level.count, "asked": asked.count, "per": None}
        else:
            more, less = asked.beside[change.beside], level.beside[change.beside]
            document |= {"of": less.type, "count": less.amount, "asked": more.amount, "per": level.property}
    return document
