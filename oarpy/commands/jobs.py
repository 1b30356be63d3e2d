"""What oardel, oarhold and oarresume have in common: a verb for jobs, chosen in the words of oarstat."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from oarpy.client.selection import Selection
from oarpy.commands.listing import printable
from oarpy.commands.selecting import LEFT_OUT, selection_of, with_array, with_filters
from oarpy.commands.session import client, complain, connect
from oarpy.errors import RequestRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.payloads import MAX_JOBS, JobOutcome, JobSelection
from oarpy.model.states import JobId, JobState

if TYPE_CHECKING:
    from oarpy.client.job_view import Line
    from oarpy.model.edits import Undeletion

_NO_JOB = "no job was named; give ids, ranges such as 12-20, --array, -u or --sql"
_LIVE = (JobState.WAITING, JobState.HOLD, JobState.RUNNING, JobState.SUSPENDED, JobState.RESUMING)
#: In which states a verb does something to a job, or finds it done, and the status where a job is in another one.
_FIT: Mapping[str, tuple[Collection[str], ExitStatus]] = {
    "hold": ((JobState.WAITING, JobState.HOLD), ExitStatus.REFUSED),
    "suspend": (_LIVE, ExitStatus.REFUSED),
    "resume": ((JobState.WAITING, JobState.HOLD, JobState.SUSPENDED, JobState.RESUMING), ExitStatus.REFUSED),
    "signal": ((JobState.RUNNING,), ExitStatus.NOTHING_TO_DO),
    "checkpoint": ((JobState.RUNNING,), ExitStatus.NOTHING_TO_DO),
    "besteffort": ((JobState.RUNNING,), ExitStatus.PARAMETERS_OR_NOT_RUNNING),
    "terminate": ((JobState.FINISHING,), ExitStatus.RESERVATION_OR_NOT_FINISHING),
}
F = TypeVar("F", bound=Callable[..., Any])


class Named(NamedTuple):
    """The words that choose jobs, as they were typed."""

    ids: Sequence[str]
    arrays: Sequence[str]
    user: str | None
    sql: str | None
    dry_run: bool


def names_jobs(function: F) -> F:
    """Adds the ids and ranges of jobs, ``--array``, ``-u``, ``--sql`` and ``--dry-run``; see `named`."""
    function = click.option("--dry-run", is_flag=True, help="Do nothing; show the jobs that it would be done to.")(
        function
    )
    function = with_filters(function)
    function = with_array("All jobs of this array; the other ids are those of arrays, too.")(function)
    return click.argument("ids", metavar="ID...", nargs=-1)(function)


def named(options: dict[str, Any]) -> Named:
    """What `names_jobs` added, taken out of ``options``.

    With ``--array`` every id is that of an array: OAR 2 has it as a flag (``oardel --array 5 6``).
    """
    jobs = Named(*(options.pop(name) for name in Named._fields))
    if not jobs.arrays:
        return jobs
    return jobs._replace(ids=(), arrays=[*(text for text in jobs.arrays if text != LEFT_OUT), *jobs.ids])


def order(
    verb: str, jobs: Named, *, signal: int | None = None, deed: str | None = None, show: Callable[[JobOutcome], object]
) -> int:
    """Ask ``verb`` for all jobs, ``show`` what became of each; returns the worst status.

    ``deed`` is what a dry run calls it.
    """
    if not any(jobs[:4]):
        raise RequestRefused(_NO_JOB, exit_status=ExitStatus.BAD_ID)
    selection = selection_of(jobs.ids, jobs.arrays, jobs.user, jobs.sql)
    if jobs.dry_run:
        return _rehearse(verb, deed or verb, selection)
    return _asked(verb, JobSelection(*resolved(selection), signal=signal), show)


def give_back(jobs: Named, show: Callable[[JobOutcome], object]) -> int:
    """Take back the deletion of jobs that are named by ids, ranges or arrays; returns the worst status."""
    if jobs.user or jobs.sql:
        raise RequestRefused("--undo goes with ids, ranges and --array alone")
    if not jobs.ids and not jobs.arrays:
        raise RequestRefused(_NO_JOB, exit_status=ExitStatus.BAD_ID)
    selection = selection_of(jobs.ids, jobs.arrays)
    ids, arrays = tuple(map(JobId, selection.job_ids)), tuple(map(JobId, selection.array_ids))
    if selection.ranges:
        from oarpy.client import job_view

        found = job_view.states(connect(), Selection(ranges=selection.ranges))
        ids += tuple(JobId(job_id) for job_id, state in found if state == JobState.ERROR.value)
    from oarpy.model.edits import Undeletion

    wish = Undeletion(JobSelection(tuple(dict.fromkeys(ids)), arrays), jobs.dry_run)
    if jobs.dry_run:
        return tell_possible("give back", client().order("undelete", wish))
    return _asked("undelete", wish, show)


def tell_possible(deed: str, outcomes: Sequence[JobOutcome]) -> int:
    """Print what a dry run found, where the server has said to which jobs it would be done; the worst status."""
    for job in outcomes:
        if job.status:
            complain(job.message)
    tell_chosen(deed, [job.job_id for job in outcomes if not job.status])
    return max((job.status for job in outcomes), default=ExitStatus.REFUSED)


def tell_chosen(deed: str, job_ids: Sequence[JobId]) -> None:
    """Print the jobs to which a dry run would do it."""
    from oarpy.client import job_view

    _tell_rehearsed(deed, job_view.lines(connect(), Selection(tuple(job_ids))) if job_ids else ())


def _tell_rehearsed(deed: str, jobs: Collection[Line]) -> None:
    for job in jobs:
        name = f", {printable(job.name)}" if job.name else ""
        click.echo(f"Would {deed} the job = {job.job_id} ({job.state}, {job.user}{name})")
    click.echo(f"{len(jobs)} job{'' if len(jobs) == 1 else 's'}; nothing was done")


def _asked(verb: str, chosen: JobSelection | Undeletion, show: Callable[[JobOutcome], object]) -> int:
    outcomes = client().order(verb, chosen)
    for job in outcomes:
        show(job)
        if job.status:
            complain(job.message or f"job {job.job_id}: {job.outcome}")
    return max((job.status for job in outcomes), default=ExitStatus.REFUSED)


def _narrowed(selection: Selection) -> bool:
    return selection.filter is not None or selection.mine or selection.user is not None


def resolved(selection: Selection) -> tuple[tuple[JobId, ...], tuple[JobId, ...]]:
    """Ids and arrays; what stands for jobs that the user did not name one by one means those that are not over."""
    arrays = tuple(map(JobId, selection.array_ids))
    singles = tuple(map(JobId, selection.job_ids))
    if not selection.ranges and not _narrowed(selection):
        return singles, arrays
    from oarpy.client import job_view

    looked_for = selection if _narrowed(selection) else Selection(ranges=selection.ranges)
    found = [JobId(job_id) for job_id, _ in job_view.states(connect(), looked_for._replace(live=True))]
    if _narrowed(selection):
        singles, arrays = (), ()
    if not found and not singles and not arrays:
        raise RequestRefused("no job that is not over is chosen by this")
    if len(found) > MAX_JOBS:
        raise RequestRefused(f"this chooses {len(found)} jobs; {MAX_JOBS} are the most at once")
    return tuple(dict.fromkeys((*singles, *found))), arrays


def _rehearse(verb: str, deed: str, selection: Selection) -> int:
    from oarpy.client import job_view

    conn = connect()
    me = str(conn.value("SELECT oar.me()"))
    found = {job.job_id: job for job in job_view.lines(conn, selection)}
    status = ExitStatus.OK
    chosen = []
    # One by one named, a job that is over or unknown is worth a word.
    for job_id in selection.job_ids:
        if job_id not in found and not _narrowed(selection):
            complain(f"job {job_id} does not exist")
            status = ExitStatus.REFUSED
    arrays = {job.array_id for job in found.values()}
    for array_id in selection.array_ids:
        if array_id not in arrays and not _narrowed(selection):
            complain(f"array {array_id} does not exist")
            status = ExitStatus.BAD_ID
    for job in found.values():
        if job.stopped_s is not None:
            if job.job_id in selection.job_ids:
                complain(f"job {job.job_id} is over")
            continue
        if me not in (job.user, "root", "oar"):
            complain(f"job {job.job_id} belongs to {job.user}")
            status = max(status, ExitStatus.REFUSED)
            continue
        fit, refused = _FIT.get(verb, ((job.state,), ExitStatus.OK))
        if job.state not in fit:
            complain(f"job {job.job_id} is {job.state}")
            status = max(status, refused)
            continue
        chosen.append(job)
    _tell_rehearsed(deed, chosen)
    return status
