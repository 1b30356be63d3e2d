"""``oarwalltime``: another walltime for a running job."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import click

from oarpy.commands.selecting import LEFT_OUT, selection_of
from oarpy.commands.session import OarCommand, ask, complain, connect, run, tell, with_version
from oarpy.errors import RequestRefused, SyntaxRefused
from oarpy.model.durations import parse_duration, render_duration
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.payloads import WalltimeAnswer, WalltimeChange
from oarpy.model.states import JobId, JobState
from oarpy.model.wording import excerpt

# Without this, -0:30 would be an option.
SETTINGS = {"ignore_unknown_options": True, "help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.command("oarwalltime", cls=OarCommand, context_settings=SETTINGS)
@click.argument("job", required=False)
@click.argument("change", required=False)
@click.option("--array", "arrays", multiple=True, metavar="ID", help="The running jobs of this array, in place of JOB.")
@click.option("--sql", metavar="CONDITION", help="The running jobs that satisfy it, in place of JOB.")
@click.option("-u", "--user", is_flag=False, flag_value=LEFT_OUT, metavar="USER", help="Those of USER, or yours.")
@click.option("--dry-run", is_flag=True, help="Ask for nothing; show the jobs that are chosen.")
@click.option("-f", "--force", is_flag=True, help="At once, and not in the site's steps (if you may).")
@click.option("-w", "--whole", is_flag=True, help="All of it or nothing.")
@click.option("-d", "--delay-next-jobs", is_flag=True, help="Even if jobs of others start later for it (if you may).")
@click.option("-t", "--timeout", metavar="DURATION", help="Give up what was not granted after this time.")
@click.option("-J", "--json", "as_json", is_flag=True, help="Print the answer as JSON.")
@with_version
def oarwalltime(
    job: str | None,
    change: str | None,
    arrays: tuple[str, ...],
    sql: str | None,
    user: str | None,
    dry_run: bool,
    force: bool,
    whole: bool,
    delay_next_jobs: bool,
    timeout: str | None,
    as_json: bool,
) -> int:
    """Ask for another walltime of running jobs, or without CHANGE show what can be had.

    \b
    Examples:
        oarwalltime 4242
        oarwalltime 4242 +1:30
        oarwalltime 4242 -0:30
        oarwalltime 4242 3:0:0
        oarwalltime 4242 +90m
        oarwalltime 4242 +0
        oarwalltime --sql "project = 'p'" +1:00 --dry-run

    The examples ask for an hour and a half more, half an hour less, three hours in all, an hour
    and a half more, withdraw what was not granted yet, and show which jobs would get an hour more.
    JOB may be several, as in 4242,4250-4260: each is asked for by itself, and the worst status
    is the command's.  Less is granted at once.  More is granted
    by the scheduler, as far as no other job is planned on the job's resources; what
    it cannot grant stays pending.

    \b
    Status: 1 the job does not run, 3 you may not, 4 no such job or a mistake in
    typing, 5 the site does not allow it.
    """
    if arrays or sql is not None or user is not None:
        if change is not None:
            raise SyntaxRefused("--array, --sql and -u stand in the place of JOB", exit_status=ExitStatus.BAD_ID)
        job, change = None, job
    elif job is None:
        raise click.UsageError("Missing argument 'JOB'.")
    if change is None and (force or whole or delay_next_jobs or timeout is not None):
        raise SyntaxRefused("an option without a change of the walltime", exit_status=ExitStatus.BAD_ID)
    seconds, relative = (None, False) if change is None else _parsed(change)
    if change is not None and seconds is not None and not change.lstrip("+-").replace(":", "").isdigit():
        sign = "" if not relative else "-" if seconds < 0 else "+"
        tell(f"understood as {sign}{render_duration(abs(seconds))}")
    timeout_s = None if timeout is None else _duration(timeout)
    job_ids = _chosen(job, arrays, user, sql)
    if dry_run:
        from oarpy.commands.jobs import tell_chosen

        tell_chosen("show the walltime of" if change is None else "change the walltime of", job_ids)
        return ExitStatus.OK

    def asked(job_id: JobId) -> WalltimeAnswer:
        wish = WalltimeChange(job_id, seconds, relative, force, whole, delay_next_jobs, timeout_s)
        return WalltimeAnswer.from_json(ask("walltime", wish.to_json()))

    answers, status = _answers(job_ids, asked)
    if as_json:
        click.echo(json.dumps({str(answer.job_id): answer.facts() for answer in answers}))
        return status
    for answer in answers:
        if not answer.message:
            _show(answer)
            continue
        click.echo(f"Job {answer.job_id}: {answer.message}.")
        if answer.pending_s:
            click.echo(f"  Pending: {render_duration(answer.pending_s)}")
    return status


def _chosen(job: str | None, arrays: Sequence[str], user: str | None, sql: str | None) -> Sequence[JobId]:
    """The jobs that are named one by one; else those that run, of all that are chosen."""
    selection = selection_of([] if job is None else [job], arrays, user, sql)
    if job is not None and not selection.ranges:
        return tuple(map(JobId, selection.job_ids))
    from oarpy.client import job_view

    running = [
        JobId(job_id)
        for job_id, state in job_view.states(connect(), selection._replace(live=True))
        if state == JobState.RUNNING.value
    ]
    if not running:
        raise RequestRefused("no running job is chosen by this", exit_status=ExitStatus.BAD_ID)
    return running


def _answers(job_ids: Sequence[JobId], asked: Callable[[JobId], WalltimeAnswer]) -> tuple[list[WalltimeAnswer], int]:
    """What was answered for each job, and the worst status; the refusal of an only one is raised."""
    answers, status = [], int(ExitStatus.OK)
    for job_id in job_ids:
        try:
            answers.append(asked(job_id))
        except RequestRefused as refusal:
            if len(job_ids) == 1:
                raise
            sentence = str(refusal)
            complain(sentence if sentence.startswith("job ") else f"job {job_id}: {sentence}")
            status = max(status, int(refusal.exit_status))
    return answers, status


def _show(answer: WalltimeAnswer) -> None:
    possible = "UNLIMITED" if answer.possible_s is None else render_duration(answer.possible_s)
    ways = [
        f"{name}: {render_duration(granted_s)}"
        for name, granted_s in (
            ("with force", answer.granted_with_force_s),
            ("with jobs delayed", answer.granted_with_delay_s),
            ("whole", answer.granted_with_whole_s),
        )
        if granted_s
    ]
    click.echo(f"Walltime change for job {answer.job_id} (job is running):")
    for name, value in (
        ("Current walltime:", render_duration(answer.walltime_s)),
        ("Possible increase:", possible),
        ("Already granted:", _signed(answer.granted_s) + (f" ({', '.join(ways)})" if ways else "")),
        ("Pending/unsatisfied:", render_duration(answer.pending_s)),
    ):
        click.echo(f"  {name:<20} {value:>9}")


def _signed(seconds: int) -> str:
    return ("-" if seconds < 0 else "") + render_duration(abs(seconds))


def _parsed(text: str) -> tuple[int, bool]:
    """(seconds, relative) of ``[+-]h[:m[:s]]``; +0 is what withdraws."""
    sign = text[:1] if text[:1] in ("+", "-") else ""
    rest = text.removeprefix(sign)
    if rest and not rest.strip("0:") and rest[0] == "0":
        return 0, True
    try:
        seconds = _duration(rest)
    except SyntaxRefused:
        raise SyntaxRefused(
            f"{excerpt(text)} is not a walltime; write hours[:minutes[:seconds]] or 90m, after + or - for more or less",
            exit_status=ExitStatus.BAD_ID,
        ) from None
    return (-seconds if sign == "-" else seconds), bool(sign)


def _duration(text: str) -> int:
    try:
        return parse_duration(text)
    except SyntaxRefused as refusal:
        raise SyntaxRefused(str(refusal), exit_status=ExitStatus.BAD_ID) from None


def main() -> None:
    run(oarwalltime)
