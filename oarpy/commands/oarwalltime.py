"""``oarwalltime``: another walltime for a running job."""

from __future__ import annotations

import json

import click

from oarpy.commands.session import OarCommand, ask, run, tell, with_version
from oarpy.errors import SyntaxRefused
from oarpy.model.dependencies import parse_job_id
from oarpy.model.durations import parse_duration, render_duration
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.payloads import WalltimeAnswer, WalltimeChange
from oarpy.model.wording import excerpt

# Without this, -0:30 would be an option.
SETTINGS = {"ignore_unknown_options": True, "help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.command("oarwalltime", cls=OarCommand, context_settings=SETTINGS)
@click.argument("job")
@click.argument("change", required=False)
@click.option("-f", "--force", is_flag=True, help="At once, and not in the site's steps (if you may).")
@click.option("-w", "--whole", is_flag=True, help="All of it or nothing.")
@click.option("-d", "--delay-next-jobs", is_flag=True, help="Even if jobs of others start later for it (if you may).")
@click.option("-t", "--timeout", metavar="DURATION", help="Give up what was not granted after this time.")
@click.option("-J", "--json", "as_json", is_flag=True, help="Print the answer as JSON.")
@with_version
def oarwalltime(
    job: str,
    change: str | None,
    force: bool,
    whole: bool,
    delay_next_jobs: bool,
    timeout: str | None,
    as_json: bool,
) -> int:
    """Ask for another walltime of a running job, or without CHANGE show what can be had.

    \b
    Examples:
        oarwalltime 4242
        oarwalltime 4242 +1:30
        oarwalltime 4242 -0:30
        oarwalltime 4242 3:0:0
        oarwalltime 4242 +90m
        oarwalltime 4242 +0

    The examples ask for an hour and a half more, half an hour less, three hours in all, an hour
    and a half more, and withdraw what was not granted yet.  Less is granted at once.  More is granted
    by the scheduler, as far as no other job is planned on the job's resources; what
    it cannot grant stays pending.

    \b
    Status: 1 the job does not run, 3 you may not, 4 no such job or a mistake in
    typing, 5 the site does not allow it.
    """
    if change is None and (force or whole or delay_next_jobs or timeout is not None):
        raise SyntaxRefused("an option without a change of the walltime", exit_status=ExitStatus.BAD_ID)
    seconds, relative = (None, False) if change is None else _parsed(change)
    if change is not None and seconds is not None and not change.lstrip("+-").replace(":", "").isdigit():
        sign = "" if not relative else "-" if seconds < 0 else "+"
        tell(f"understood as {sign}{render_duration(abs(seconds))}")
    asked = WalltimeChange(
        job_id=parse_job_id(job),
        seconds=seconds,
        relative=relative,
        force=force,
        whole=whole,
        delay_next_jobs=delay_next_jobs,
        timeout_s=None if timeout is None else _duration(timeout),
    )
    answer = WalltimeAnswer.from_json(ask("walltime", asked.to_json()))
    if as_json:
        click.echo(json.dumps({str(answer.job_id): answer.facts()}))
    elif answer.message:
        click.echo(f"Job {answer.job_id}: {answer.message}.")
        if answer.pending_s:
            click.echo(f"  Pending: {render_duration(answer.pending_s)}")
    else:
        _show(answer)
    return ExitStatus.OK


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
