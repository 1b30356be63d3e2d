"""Verbs that change what a job asks for, or ask for it once more: edit, resubmit, undelete.

An edited job is judged as if it were submitted now: what was asked for at first, with the
changes, goes through the rules of admission again.  Its id and the date of its submission
stay, and so does its place in the queue.

What was deleted is over and stays so, as everybody has been told by then; what undelete
gives back is a new job, with another id, the same request, and the old date of submission.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import NamedTuple, TypeAlias

from sqlalchemy.engine import Connection

from oarpy.actions.administrators import administrators
from oarpy.actions.jobs import REFUSED, REGISTERED
from oarpy.actions.prepared import Prepared
from oarpy.actions.submit import Site, judge, new_jobs
from oarpy.database import edits, events, plans, selections
from oarpy.database.edits import Asked, Deleted, Stored
from oarpy.database.events import Event
from oarpy.database.submissions import NewJobs
from oarpy.database.wake import Reader
from oarpy.errors import RequestRefused, SyntaxRefused
from oarpy.model.edits import FAILED, Edit, Edited, Undeletion, merged
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.payloads import JobOutcome, JobsAnswer, JobSelection, Submission, Submitted
from oarpy.model.states import FINAL, EndCause, JobId, JobState

#: Looks up the jobs that a selection names, and what their submissions asked for.
Look: TypeAlias = Callable[[JobSelection], tuple[Sequence[Stored], Mapping[int, Asked]]]
#: What a dry run says of a job to which it would be done.
POSSIBLE = "POSSIBLE"
#: How many edits, or resubmissions, of a job are told as they were typed.
MOST_TYPED = 20
_LEFT_OUT = "…"
_TYPED_LATER = re.compile(rf"\n(?=oarsub [^\n]*--(?:edit|resubmit)|{_LEFT_OUT}$)", re.MULTILINE)
EDITABLE = frozenset({JobState.WAITING, JobState.HOLD})
_NOTHING_NEW = "nothing was named that is to be different; oarsub --help tells what can be"
_TRY_AGAIN = "was changed by somebody else meanwhile; try again"


class _Group(NamedTuple):
    """Jobs that ask for the same, each with its command, and what that becomes."""

    jobs: Sequence[Stored]
    commands: Sequence[str]
    new: NewJobs
    warnings: Sequence[str]


def prepare_edit(payload: object, login: str, site: Site, look: Look, request_id: int | None = None) -> Prepared:
    """Let jobs that wait ask for something else; each is changed as a whole or not at all.

    Raises:
        RequestRefused: with one sentence for the user.
    """
    edit = Edit.from_json(payload)
    if not edit.changes:
        raise SyntaxRefused(_NOTHING_NEW, exit_status=ExitStatus.NOTHING_TO_DO)
    if edit.only is not None or "hold" in edit.changes:
        raise SyntaxRefused("an edit does not hold jobs, nor look at how they ended; oarhold holds them")
    found, asked = look(edit.selection)
    refused = {job.job_id: _refusal(job, login, _why_not_edited(job)) for job in found}
    groups: list[_Group] = []
    for jobs in _alike(job for job in found if refused[job.job_id] is None):
        try:
            groups.append(_judged(edit, jobs, asked[jobs[0].request_id], site, request_id))
        except RequestRefused as refusal:
            if len(jobs) == len(found):
                raise
            for job in jobs:
                refused[job.job_id] = JobOutcome(
                    job.job_id, REFUSED, int(refusal.exit_status), f"job {job.job_id}: {refusal}"
                )
    if edit.dry_run:
        possible = _possible(job for group in groups for job in group.jobs)
        return _rehearsal(edit, found, {**possible, **_known(refused)}, groups)
    write = partial(_edit, edit=edit, found=found, refused=refused, groups=groups, login=login)
    return Prepared(write, rows=len(found), wakes=(Reader.ALMIGHTY,))


def _edit(
    conn: Connection,
    *,
    edit: Edit,
    found: Sequence[Stored],
    refused: Mapping[JobId, JobOutcome | None],
    groups: Sequence[_Group],
    login: str,
) -> Edited:
    outcomes = _known(refused)
    now = edits.locked(conn, sorted(job.job_id for group in groups for job in group.jobs))
    changed: list[JobId] = []
    for group in groups:
        chosen = []
        for job, command in zip(group.jobs, group.commands, strict=True):
            state, request_id = now[job.job_id]
            if state in EDITABLE and request_id == job.request_id:
                chosen.append((job.job_id, command))
                outcomes[job.job_id] = JobOutcome(job.job_id, REGISTERED)
            else:
                why = _TRY_AGAIN if state in EDITABLE else _why_not_edited(job._replace(state=state))
                outcomes[job.job_id] = _refused(job.job_id, why or _TRY_AGAIN)
        if chosen:
            job_ids = [job_id for job_id, _ in chosen]
            commands = [command for _, command in chosen]
            edits.rewrite(conn, group.new, job_ids, commands, depends="dependencies" in edit.changes)
            changed += job_ids
    if changed:
        edits.forget_requests(conn, {job.request_id for group in groups for job in group.jobs})
    plans.forget(conn, sorted(changed))
    said = f"{login} changed {', '.join(sorted(_told(edit.changes)))}"
    events.append(conn, (Event("JOB_EDITED", job_id, description=said) for job_id in changed))
    return Edited(tuple(_answers(edit.selection, found, outcomes)), _warnings(groups))


def _requested(before: str, said: str) -> str:
    """What was typed for a job, at first and later; of many times the first and the last ones."""
    if not said:
        return before
    first, *later = _TYPED_LATER.split(before)
    later = [each for each in [*later, said] if each != _LEFT_OUT]
    left_out = [_LEFT_OUT] if len(later) > MOST_TYPED or _LEFT_OUT in before else []
    return "\n".join((first, *left_out, *later[-MOST_TYPED:]))


def _known(outcomes: Mapping[JobId, JobOutcome | None]) -> dict[JobId, JobOutcome]:
    return {job_id: outcome for job_id, outcome in outcomes.items() if outcome is not None}


def _possible(jobs: Iterable[Stored]) -> dict[JobId, JobOutcome]:
    return {job.job_id: JobOutcome(job.job_id, POSSIBLE) for job in jobs}


def _warnings(groups: Iterable[_Group]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(line for group in groups for line in group.warnings))


def _rehearsal(
    edit: Edit, found: Iterable[Stored], outcomes: Mapping[JobId, JobOutcome], groups: Iterable[_Group]
) -> Prepared:
    """What a dry run answers; it writes nothing."""
    answer = Edited(tuple(_answers(edit.selection, found, outcomes)), _warnings(groups))
    return Prepared(lambda conn: answer, rows=0)


def _told(changes: Iterable[str]) -> set[str]:
    """The names of the options, more or less."""
    names = {"wishes": "resources", "filter": "properties", "checkpoint_s": "checkpoint"}
    return {names.get(name, name) for name in changes}


def prepare_resubmit(payload: object, login: str, site: Site, look: Look, request_id: int | None = None) -> Prepared:
    """Submit jobs that are over once more, with changes or without.

    Raises:
        RequestRefused: with one sentence for the user; then none is submitted.
    """
    edit = Edit.from_json(payload)
    found, asked = look(edit.selection)
    chosen = _chosen(edit, found)
    for job in chosen:
        refusal = _refusal(job, login, _why_not_repeated(job))
        if refusal is not None:
            raise RequestRefused(refusal.message, exit_status=ExitStatus.BAD_ID)
    if not chosen:
        raise RequestRefused(_nothing_chosen(edit, found), exit_status=ExitStatus.BAD_ID)
    groups = [_judged(edit, jobs, asked[jobs[0].request_id], site, request_id) for jobs in _alike(chosen)]
    if edit.dry_run:
        return _rehearsal(edit, chosen, _possible(chosen), groups)
    write = partial(_repeat, edit=edit, groups=groups, login=login)
    return Prepared(write, rows=len(chosen), wakes=(Reader.ALMIGHTY,))


def _repeat(conn: Connection, *, edit: Edit, groups: Sequence[_Group], login: str) -> Submitted:
    copies: dict[JobId, JobId] = {}
    for group in groups:
        job_ids = [job.job_id for job in group.jobs]
        copies |= edits.repeat(conn, group.new, job_ids, group.commands, depends="dependencies" in edit.changes)
    said = f"{login} submitted it again as job"
    events.append(conn, (Event("RESUBMIT_JOB", old, description=f"{said} {new}") for old, new in copies.items()))
    array_id = edit.selection.array_ids[0] if edit.selection.array_ids else None
    return Submitted(tuple(sorted(copies.values())), array_id, _warnings(groups))


def _chosen(edit: Edit, found: Sequence[Stored]) -> list[Stored]:
    """The jobs to be submitted again: of arrays, the last of each place."""
    named = set(edit.selection.job_ids)
    arrays = set(edit.selection.array_ids)
    last: dict[tuple[JobId, int], Stored] = {}
    for job in found:
        if job.array_id in arrays:
            last[job.array_id, job.array_index] = job
    elements = [job for job in last.values() if job.state in FINAL and (edit.only != FAILED or _failed(job))]
    return [job for job in found if job.job_id in named] + [job for job in elements if job.job_id not in named]


def _failed(job: Stored) -> bool:
    return job.state is JobState.ERROR or job.exit_code != 0


def _nothing_chosen(edit: Edit, found: Sequence[Stored]) -> str:
    names = edit.selection.job_ids or edit.selection.array_ids
    if not found:
        return f"{'job' if edit.selection.job_ids else 'array'} {names[0]} does not exist"
    return f"of array {names[0]} no job {'has failed' if edit.only == FAILED else 'is over'}"


def _alike(jobs: Iterable[Stored]) -> list[list[Stored]]:
    """The jobs in groups of one owner and one submission."""
    groups: dict[tuple[int, str], list[Stored]] = {}
    for job in jobs:
        groups.setdefault((job.request_id, job.owner), []).append(job)
    return list(groups.values())


def _judged(edit: Edit, jobs: Sequence[Stored], asked: Asked, site: Site, request_id: int | None) -> _Group:
    if asked.document is None:
        raise RequestRefused(
            f"job {jobs[0].job_id} was not submitted by oarsub, and what was asked for is not known",
            exit_status=ExitStatus.DENIED,
        )
    document = dict(asked.document)
    given = document.pop("parameters", None)
    document.pop("array_count", None)
    document.pop("hold", None)
    # A copy has had its turn: what the first one waited for has happened, or never will.
    if edit.changes.get("dependencies") is None and jobs[0].state in FINAL:
        document.pop("dependencies", None)
    one = merged(document, edit.changes)
    parameters: list[str] = []
    if given:
        parameters = [given[0 if len(given) == 1 else job.array_index - 1] for job in jobs]
        one = one._replace(parameters=tuple(parameters))
    elif len(jobs) > 1:
        one = one._replace(array_count=len(jobs))
    # Of several, each finds its own parameter by its place in the array.
    parameters_kept = {"parameters": given if len(jobs) > 1 else parameters} if given else {}
    kept = {**one._replace(hold=False).to_json(), **parameters_kept}
    one = one._replace(initial_request=_requested(asked.initial_request, edit.said))
    judged = judge(Submission.from_json(one.to_json()), jobs[0].owner, site)
    new = new_jobs(one, judged, request_id)
    commands = [f"{new.command} {each}" for each in parameters] or [new.command] * len(jobs)
    return _Group(jobs, commands, replace(new, asked=kept), judged.submission.warnings)


def _refusal(job: Stored, login: str, why_not: str | None) -> JobOutcome | None:
    if job.owner != login and login not in administrators():
        return _refused(job.job_id, f"belongs to {job.owner}")
    return None if why_not is None else _refused(job.job_id, why_not)


def _refused(job_id: JobId, sentence: str) -> JobOutcome:
    return JobOutcome(job_id, REFUSED, int(ExitStatus.REFUSED), f"job {job_id} {sentence}")


def _why_not_edited(job: Stored) -> str | None:
    if job.state in FINAL:
        return f"is over; oarsub --resubmit {job.job_id} submits it again, with changes"
    if job.state not in EDITABLE:
        return f"is {job.state.value}; only what waits or is held can be changed, and oarwalltime prolongs what runs"
    if job.is_reservation:
        return "is an advance reservation, whose resources are promised; delete it and reserve anew"
    return None


def _why_not_repeated(job: Stored) -> str | None:
    if job.state not in FINAL:
        return f"is {job.state.value}; it can be submitted again when it is over"
    if job.is_reservation:
        return "was an advance reservation; ask for another one with oarsub -r"
    if job.is_interactive:
        return "was interactive; ask for another one with oarsub -I"
    return None


def _answers(
    selection: JobSelection, found: Iterable[Stored | Deleted], outcomes: Mapping[JobId, JobOutcome]
) -> Iterable[JobOutcome]:
    """One outcome for each job that was named, an array's elements ascending."""
    for job_id in dict.fromkeys(selection.job_ids):
        yield outcomes.get(job_id) or _refused(job_id, "does not exist")
    elements: dict[JobId, list[JobOutcome]] = {array_id: [] for array_id in selection.array_ids}
    for job in found:
        if job.array_id in elements:
            elements[job.array_id].append(outcomes[job.job_id])
    for array_id, its in elements.items():
        # Those that could not be had are worth a line only when there are no others.
        unknown = JobOutcome(array_id, REFUSED, int(ExitStatus.BAD_ID), f"array {array_id} does not exist")
        yield from [one for one in its if not one.status] or its[:1] or [unknown]


def prepare_undelete(payload: object, login: str, grace: timedelta) -> Prepared:
    """Give back jobs that were deleted while they waited, as new ones of the same age.

    Raises:
        RequestRefused: with one sentence for the user.
    """
    selection, dry_run = Undeletion.from_json(payload)
    write = partial(_undelete, selection=selection, login=login, grace=grace, dry_run=dry_run)
    rows = len(selection.job_ids) + len(selection.array_ids)
    return Prepared(write, rows=rows, wakes=() if dry_run else (Reader.ALMIGHTY,))


def _undelete(conn: Connection, *, selection: JobSelection, login: str, grace: timedelta, dry_run: bool) -> JobsAnswer:
    named = selections.named(conn, selection.job_ids, selection.array_ids)
    found = edits.deleted(conn, sorted(job.job_id for job in named), grace)
    why_not = {job.job_id: _why_not_given_back(job, login, grace) for job in found}
    if dry_run:
        seen = {
            job_id: JobOutcome(job_id, POSSIBLE) if sentence is None else _refused(job_id, sentence)
            for job_id, sentence in why_not.items()
        }
        return JobsAnswer(tuple(_answers(selection, found, seen)))
    states = {
        job.job_id: JobState.HOLD if job.before is JobState.HOLD else JobState.WAITING
        for job in found
        if why_not[job.job_id] is None
    }
    copies = edits.give_back(conn, states)
    events.append(
        conn,
        (
            Event("JOB_GIVEN_BACK", old, description=f"{login} took its deletion back; job {new} has its place")
            for old, new in copies.items()
        ),
    )
    outcomes = {
        job_id: JobOutcome(job_id, str(copies[job_id])) if sentence is None else _refused(job_id, sentence)
        for job_id, sentence in why_not.items()
    }
    return JobsAnswer(tuple(_answers(selection, found, outcomes)))


def _why_not_given_back(job: Deleted, login: str, grace: timedelta) -> str | None:
    if job.owner != login and login not in administrators():
        return f"belongs to {job.owner}"
    if job.copy is not None:
        return f"has been given back, or submitted again, as job {job.copy}"
    if job.state is not JobState.ERROR:
        return f"is {job.state.value}; it was not deleted"
    again = f"oarsub --resubmit {job.job_id} submits it again"
    if job.started or job.end_cause not in (EndCause.KILLED, EndCause.DEPENDENCY):
        return f"was not deleted while it waited; {again}"
    if job.is_reservation or job.is_interactive:
        return f"was {'an advance reservation' if job.is_reservation else 'interactive'}; ask for another one"
    if job.deleted_by not in (None, login) and login not in administrators():
        return f"was deleted by {job.deleted_by}"
    if not job.in_time:
        return f"was deleted more than {grace} ago; {again}"
    return None
