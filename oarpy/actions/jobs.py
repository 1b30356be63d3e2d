"""Verbs for jobs that exist: delete, hold, suspend, resume, checkpoint, signal, access.

Each takes many jobs at once.  A job that is unknown, or another user's, spoils
nothing for the others: every job has an outcome of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from functools import partial
from typing import NamedTuple, TypeAlias

from sqlalchemy.engine import Connection

from oarpy.actions.administrators import administrators
from oarpy.actions.prepared import Prepared
from oarpy.automata.job import JobEvent
from oarpy.database import allocations, events, jobs, plans, selections
from oarpy.database.events import Event
from oarpy.database.wake import Reader
from oarpy.errors import NotAllowed, SyntaxRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.job_types import NOOP, has_type
from oarpy.model.payloads import JobOutcome, JobsAnswer, JobSelection
from oarpy.model.states import FINAL, ON_NODES, EndCause, JobId, JobState, OrderKind

#: Jobs of these types have no processes on their nodes, or others live in them.
UNSUSPENDABLE = ("container", "noop", "cosystem", "deploy")
REGISTERED = "REGISTERED"
REFUSED = "REFUSED"
#: As wished, and by itself.
OVER = "OVER"


class _Verdict(NamedTuple):
    """What became of one job; ``sentence`` goes after "job N"."""

    outcome: str = REGISTERED
    status: int = ExitStatus.OK
    sentence: str = ""


_DONE = _Verdict()
_UNKNOWN = _Verdict(REFUSED, ExitStatus.REFUSED, "does not exist")
#: OAR tells a number that is no array's by this status.
_NO_ARRAY = _Verdict(REFUSED, ExitStatus.BAD_ID, "does not exist")
_OVER = _Verdict(REFUSED, ExitStatus.REFUSED, "is over")
_NOT_RUNNING = _Verdict(REFUSED, ExitStatus.NOTHING_TO_DO, "is over")
_NOT_ALLOWED = _Verdict(REFUSED, ExitStatus.REFUSED, "runs; only administrators may suspend and resume running jobs")
_Verdicts: TypeAlias = Mapping[JobId, _Verdict]
#: Acts on jobs, all of them locked and not over, that the one who asks may act upon.
_Act: TypeAlias = Callable[[Connection, Mapping[JobId, JobState]], _Verdicts]


def prepare_delete(payload: object, login: str) -> Prepared:
    """End jobs: at once where they have not been launched, else by an order to their nodes."""
    selection = JobSelection.from_json(payload)
    over = _Verdict(OVER, sentence="is over already; nothing was left to delete")
    return _prepared(selection, login, partial(_delete, asked_by=login), over=over)


def prepare_hold(payload: object, login: str) -> Prepared:
    """Keep waiting jobs from being started."""
    return _prepared(JobSelection.from_json(payload), login, partial(_hold, asked_by=login))


def prepare_suspend(payload: object, login: str, within: timedelta, *, everybody: bool) -> Prepared:
    """Let running jobs rest, and others use what they hold; jobs that wait are held.

    Running ones only for administrators, unless ``everybody`` may.
    """
    may = everybody or login in administrators()
    act = partial(_suspend, asked_by=login, within=within, may=may)
    return _prepared(JobSelection.from_json(payload), login, act, wakes=(Reader.RUNNER, Reader.ALMIGHTY))


def prepare_resume(payload: object, login: str, *, everybody: bool) -> Prepared:
    """Let jobs that were held wait for their start again, and suspended ones go on when they can."""
    may = everybody or login in administrators()
    return _prepared(JobSelection.from_json(payload), login, partial(_resume, asked_by=login, may=may))


def prepare_checkpoint(payload: object, login: str, within: timedelta) -> Prepared:
    """Send running jobs the signal that they want for a checkpoint; longer than ``within`` it must not take."""
    act = partial(_signal, kind=OrderKind.CHECKPOINT, signal=None, within=within, asked_by=login)
    return _prepared(JobSelection.from_json(payload), login, act, over=_NOT_RUNNING, wakes=(Reader.RUNNER,))


def prepare_signal(payload: object, login: str, within: timedelta) -> Prepared:
    """Send running jobs a signal; longer than ``within`` it must not take."""
    selection = JobSelection.from_json(payload)
    if selection.signal is None:
        raise SyntaxRefused("no signal was named", exit_status=ExitStatus.REFUSED)
    act = partial(_signal, kind=OrderKind.SIGNAL, signal=selection.signal, within=within, asked_by=login)
    return _prepared(selection, login, act, over=_NOT_RUNNING, wakes=(Reader.RUNNER,))


def prepare_access(payload: object, login: str, within: timedelta) -> Prepared:
    """Have the first host of running jobs let a shell in; longer than ``within`` it must not take."""
    act = partial(_let_in, within=within)
    over = _Verdict(REFUSED, ExitStatus.CONNECT, "is over")
    return _prepared(JobSelection.from_json(payload), login, act, over=over, wakes=(Reader.RUNNER,))


def prepare_besteffort(payload: object, login: str) -> Prepared:
    """Make running jobs besteffort ones, and besteffort ones ordinary; only for administrators.

    Raises ``NotAllowed``.
    """
    _check_administrator(login, "change whether a job is besteffort")
    act = partial(_toggle_besteffort, asked_by=login)
    over = _Verdict(REFUSED, ExitStatus.PARAMETERS_OR_NOT_RUNNING, "is over")
    return _prepared(JobSelection.from_json(payload), login, act, over=over)


def prepare_terminate(payload: object, login: str, at_least: timedelta) -> Prepared:
    """End jobs that are Finishing for longer than ``at_least``, and suspect their hosts; only for administrators.

    Raises ``NotAllowed``.
    """
    _check_administrator(login, "end a job whose processes may be left on its hosts")
    act = partial(_terminate, asked_by=login, at_least=at_least)
    over = _Verdict(REFUSED, ExitStatus.RESERVATION_OR_NOT_FINISHING, "is over")
    return _prepared(JobSelection.from_json(payload), login, act, over=over)


def _check_administrator(login: str, what: str) -> None:
    if login not in administrators():
        raise NotAllowed(f"only administrators may {what}", exit_status=ExitStatus.DENIED)


def _prepared(
    selection: JobSelection,
    login: str,
    act: _Act,
    *,
    over: _Verdict = _OVER,
    wakes: tuple[Reader, ...] = (Reader.ALMIGHTY,),
) -> Prepared:
    def write(conn: Connection) -> JobsAnswer:
        return _act_on(conn, selection, login, act, over)

    return Prepared(write, rows=len(selection.job_ids) + len(selection.array_ids), wakes=wakes)


def _act_on(conn: Connection, selection: JobSelection, login: str, act: _Act, over: _Verdict) -> JobsAnswer:
    found = {job.job_id: job for job in selections.named(conn, selection.job_ids, selection.array_ids)}
    verdicts: dict[JobId, _Verdict] = {}
    for job in found.values():
        if job.owner != login and login not in administrators():
            verdicts[job.job_id] = _Verdict(REFUSED, ExitStatus.REFUSED, f"belongs to {job.owner}")
        elif job.state in FINAL:
            verdicts[job.job_id] = over
    # Locked in the order of their ids, as everybody locks them.
    states = selections.locked(conn, sorted(found.keys() - verdicts.keys()))
    acted = act(conn, states) if states else {}
    for job_id in found.keys() - verdicts.keys():
        verdicts[job_id] = acted.get(job_id, over)

    outcomes = [_outcome(job_id, verdicts.get(job_id, _UNKNOWN)) for job_id in dict.fromkeys(selection.job_ids)]
    elements: dict[JobId, list[JobId]] = {array_id: [] for array_id in selection.array_ids}
    for job in found.values():
        if job.array_id in elements:
            elements[job.array_id].append(job.job_id)
    for array_id, job_ids in elements.items():
        # Of an array the elements that are over are not worth a line, unless all of them are.
        lasting = [job_id for job_id in job_ids if verdicts[job_id] is not over]
        if lasting:
            outcomes += [_outcome(job_id, verdicts[job_id]) for job_id in lasting]
        else:
            outcomes.append(_outcome(array_id, over if job_ids else _NO_ARRAY, what="array"))
    return JobsAnswer(tuple(outcomes))


def _outcome(job_id: JobId, verdict: _Verdict, *, what: str = "job") -> JobOutcome:
    message = f"{what} {job_id} {verdict.sentence}" if verdict.sentence else ""
    return JobOutcome(job_id, verdict.outcome, int(verdict.status), message)


def _delete(conn: Connection, states: Mapping[JobId, JobState], *, asked_by: str) -> _Verdicts:
    idle = [job_id for job_id, state in states.items() if state not in ON_NODES]
    values = {"end_cause": EndCause.KILLED}
    # Finishing and toError know no KILLED: such a job is ending by itself.
    killed = jobs.transition(conn, idle, JobEvent.KILLED, values=values)
    allocations.drop(conn, [job_id for job_id in killed if states[job_id] is JobState.TO_LAUNCH])
    plans.forget(conn, killed)
    if asked_by in administrators():
        # Its owner may not take back what somebody else decided.
        selections.note_deletion(conn, killed, asked_by)
    on_nodes = [job_id for job_id, state in states.items() if state in ON_NODES]
    wished = selections.wish_dead(conn, on_nodes, asked_by)
    _log(conn, "FRAG_JOB_REQUEST", [*killed, *sorted(wished)], f"{asked_by} asked to delete the job")
    already = _Verdict("ALREADY", ExitStatus.ARRAY_OR_ALREADY, "is being deleted already")
    return dict.fromkeys(idle, _DONE) | {job_id: _DONE if job_id in wished else already for job_id in on_nodes}


def _hold(conn: Connection, states: Mapping[JobId, JobState], *, asked_by: str) -> _Verdicts:
    # What was predicted of them is the scheduler's to forget, who would not know that it has to tell it again.
    held = jobs.transition(conn, list(states), JobEvent.HELD)
    _log(conn, "HOLD_WAITING_JOB", held, f"{asked_by} asked to hold the job")
    return _by_state(states, held, JobState.HOLD)


def _suspend(
    conn: Connection, states: Mapping[JobId, JobState], *, asked_by: str, within: timedelta, may: bool
) -> _Verdicts:
    waiting = {job_id: state for job_id, state in states.items() if state in (JobState.WAITING, JobState.HOLD)}
    verdicts = dict(_hold(conn, waiting, asked_by=asked_by)) if waiting else {}
    others = {job_id: state for job_id, state in states.items() if job_id not in waiting}
    if not may:
        return verdicts | dict.fromkeys(others, _NOT_ALLOWED)
    for job_id, types in selections.types(conn, list(others)).items():
        unfit = next((name for name in UNSUSPENDABLE if has_type(types, name)), None)
        if unfit is not None:
            verdicts[job_id] = _Verdict(REFUSED, ExitStatus.REFUSED, f"is of type {unfit} and cannot be suspended")
    running = [job_id for job_id, state in others.items() if state is JobState.RUNNING and job_id not in verdicts]
    ordered = selections.order(conn, running, OrderKind.SUSPEND, signal=None, within=within)
    # What has been given back is in use already.
    resuming = [job_id for job_id, state in others.items() if state is JobState.RESUMING]
    back = jobs.transition(conn, selections.lending(conn, resuming), JobEvent.SUSPENDED)
    _log(conn, "HOLD_RUNNING_JOB", sorted([*ordered, *back]), f"{asked_by} asked to suspend the job")
    started = _Verdict(REFUSED, ExitStatus.REFUSED, "is just being resumed; try again in a moment")
    verdicts |= dict.fromkeys(running, _DONE) | dict.fromkeys(resuming, started) | dict.fromkeys(back, _DONE)
    rest = {job_id: state for job_id, state in others.items() if job_id not in verdicts}
    return verdicts | dict(_by_state(rest, (), JobState.SUSPENDED))


def _resume(conn: Connection, states: Mapping[JobId, JobState], *, asked_by: str, may: bool) -> _Verdicts:
    suspended = [job_id for job_id, state in states.items() if state is JobState.SUSPENDED]
    resuming = jobs.transition(conn, suspended, JobEvent.RESUME_ASKED) if may else []
    released = jobs.transition(conn, list(states.keys() - set(suspended)), JobEvent.RELEASED)
    _log(conn, "RESUME_JOB", sorted([*released, *resuming]), f"{asked_by} asked to resume the job")
    verdicts = dict(_by_state(states, [*released, *resuming], JobState.WAITING))
    verdicts |= {job_id: _DONE for job_id, state in states.items() if state is JobState.RESUMING}
    return verdicts if may else verdicts | dict.fromkeys(suspended, _NOT_ALLOWED)


def _signal(
    conn: Connection,
    states: Mapping[JobId, JobState],
    *,
    kind: OrderKind,
    signal: int | None,
    within: timedelta,
    asked_by: str,
) -> _Verdicts:
    running = [job_id for job_id, state in states.items() if state is JobState.RUNNING]
    ordered = selections.order(conn, running, kind, signal=signal, within=within)
    type_ = "CHECKPOINT" if signal is None else f"SIGNAL_{signal}"
    _log(conn, type_, sorted(ordered), f"{asked_by} asked to signal the job")
    busy = _Verdict("ALREADY", ExitStatus.REFUSED, "is still being sent the signal before this one; try again")
    verdicts = {job_id: _DONE if job_id in ordered else busy for job_id in running}
    for job_id, state in states.items():
        if state is not JobState.RUNNING:
            verdicts[job_id] = _Verdict(REFUSED, ExitStatus.NOTHING_TO_DO, f"is {state.value}, not Running")
    return verdicts


def _let_in(conn: Connection, states: Mapping[JobId, JobState], *, within: timedelta) -> _Verdicts:
    verdicts = {
        job_id: _Verdict(REFUSED, ExitStatus.CONNECT, f"is {state.value}, not Running")
        for job_id, state in states.items()
        if state is not JobState.RUNNING
    }
    for job_id, types in selections.types(conn, list(states.keys() - verdicts.keys())).items():
        idle = _Verdict(REFUSED, ExitStatus.CONNECT, f"is of type {NOOP} and runs nothing")
        verdicts[job_id] = idle if has_type(types, NOOP) else _DONE
    # One that was ordered before will do.
    wanted = [job_id for job_id, verdict in verdicts.items() if verdict is _DONE]
    selections.order(conn, wanted, OrderKind.ACCESS, signal=None, within=within)
    return verdicts


def _toggle_besteffort(conn: Connection, states: Mapping[JobId, JobState], *, asked_by: str) -> _Verdicts:
    running = [job_id for job_id, state in states.items() if state is JobState.RUNNING]
    changed = selections.toggle_besteffort(conn, running)
    added = [job_id for job_id, besteffort in changed.items() if besteffort]
    removed = [job_id for job_id, besteffort in changed.items() if not besteffort]
    _log(conn, "ADD_BESTEFFORT_JOB_TYPE", added, f"{asked_by} made the job a besteffort one")
    _log(conn, "DELETE_BESTEFFORT_JOB_TYPE", removed, f"{asked_by} made the job an ordinary one")
    fixed = _Verdict(REFUSED, ExitStatus.DENIED, "is an advance reservation, or a container, and cannot be besteffort")
    verdicts = dict.fromkeys(running, fixed) | dict.fromkeys(added, _Verdict("ADDED"))
    verdicts |= dict.fromkeys(removed, _Verdict("REMOVED"))
    for job_id, state in states.items():
        if state is not JobState.RUNNING:
            verdicts[job_id] = _Verdict(REFUSED, ExitStatus.PARAMETERS_OR_NOT_RUNNING, f"is {state.value}, not Running")
    return verdicts


def _terminate(conn: Connection, states: Mapping[JobId, JobState], *, asked_by: str, at_least: timedelta) -> _Verdicts:
    finishing = [job_id for job_id, state in states.items() if state is JobState.FINISHING]
    lasting = selections.finishing_for(conn, finishing, at_least)
    _log(conn, "FORCE_TERMINATE_FINISHING_JOB", lasting, f"{asked_by} ended the job, which was Finishing")
    early = f"is Finishing for less than {at_least.total_seconds():.0f} seconds; its end may still come by itself"
    verdicts = dict.fromkeys(finishing, _Verdict(REFUSED, ExitStatus.INTERACTIVE_OR_NOT_YET, early)) | dict.fromkeys(
        lasting, _DONE
    )
    for job_id, state in states.items():
        if state is not JobState.FINISHING:
            verdicts[job_id] = _Verdict(
                REFUSED, ExitStatus.RESERVATION_OR_NOT_FINISHING, f"is {state.value}, not Finishing"
            )
    return verdicts


def _by_state(states: Mapping[JobId, JobState], changed: Collection[JobId], wanted: JobState) -> _Verdicts:
    """Fine where the state changed, or was the one that is wanted."""
    moved = frozenset(changed)
    return {
        job_id: _DONE
        if job_id in moved or state is wanted
        else _Verdict(REFUSED, ExitStatus.REFUSED, f"is {state.value}")
        for job_id, state in states.items()
    }


def _log(conn: Connection, type_: str, job_ids: Collection[JobId], description: str) -> None:
    events.append(conn, (Event(type_, job_id, description=description) for job_id in job_ids))
