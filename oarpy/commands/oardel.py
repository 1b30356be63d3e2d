"""``oardel``: delete jobs, or send them a signal."""

from __future__ import annotations

from typing import Any

import click

from oarpy.commands.jobs import give_back, named, names_jobs, order
from oarpy.commands.session import OarCommand, run, tell, with_version
from oarpy.commands.signals import parse_signal
from oarpy.errors import SyntaxRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.payloads import JobOutcome


@click.command("oardel", cls=OarCommand)
@names_jobs
@click.option("-c", "--checkpoint", is_flag=True, help="Send the checkpoint signal instead.")
@click.option("-s", "--signal", metavar="SIGNAL", help="Send this signal instead.")
@click.option("--undo", is_flag=True, help="Give back what was deleted while it waited, a short time ago.")
@click.option("-b", "--besteffort", is_flag=True, help="Make running jobs besteffort, or besteffort ones ordinary.")
@click.option(
    "--force-terminate-finishing-job",
    "terminate",
    is_flag=True,
    help="End jobs that stay in Finishing; their hosts become Suspected.",
)
@with_version
def oardel(checkpoint: bool, signal: str | None, undo: bool, besteffort: bool, terminate: bool, **options: Any) -> int:
    """Delete jobs, whether they wait or run.

    \b
    Examples:
        oardel 4242 4243
        oardel --array 4242
        oardel -s SIGUSR1 4242
        oardel 4242-4250 --dry-run
        oardel -u --sql "state = 'Waiting'"
        oardel --undo 4242

    What --undo gives back is a new job, whose id is printed, with the request of the
    deleted one and its place in the queue.

    All of several jobs are tried; the status is the worst: 1 for a job that is
    unknown or not yours, 4 for an array that does not exist, 5 for a signal to a job that does not run, 6 for a job
    that is being deleted already.  A job that is over already is no error.
    -b and --force-terminate-finishing-job are for administrators (else 8); 9: the
    job does not run, 10: it is not Finishing, 11: not for long.
    """
    jobs = named(options)
    if checkpoint + (signal is not None) + besteffort + terminate + undo > 1:
        sentence = "only one of -c, -s, -b, --undo and --force-terminate-finishing-job at a time"
        raise SyntaxRefused(sentence, exit_status=ExitStatus.REFUSED)
    if besteffort:
        return order("besteffort", jobs, deed="change the type of", show=_show_besteffort)
    if terminate:
        return order("terminate", jobs, deed="force the termination of", show=_show_termination)
    if undo:
        return give_back(jobs, _show_return)
    if checkpoint:
        return order("checkpoint", jobs, deed="signal", show=_show_signal)
    if signal is not None:
        return order("signal", jobs, signal=parse_signal(signal), show=_show_signal)
    registered: list[str] = []

    def show(job: JobOutcome) -> None:
        click.echo(f"Deleting the job = {job.job_id} ...{job.outcome}" + ("" if job.status else "."))
        if job.message and not job.status:
            tell(job.message)
        elif not job.status:
            registered.append(str(job.job_id))

    status = order("delete", jobs, show=show)
    if registered:
        click.echo(f"To be deleted now: {' '.join(registered)}")
    return status


def _show_return(job: JobOutcome) -> None:
    if job.status:
        click.echo(f"Giving back the job = {job.job_id} ...{job.outcome}")
    else:
        click.echo(f"Giving back the job = {job.job_id} ...as job {job.outcome}.\nOAR_JOB_ID={job.outcome}")


def _show_signal(job: JobOutcome) -> None:
    click.echo(f"Signalling the job = {job.job_id} ...{job.outcome}" + ("" if job.status else "."))


def _show_besteffort(job: JobOutcome) -> None:
    if not job.status:
        click.echo(f"{'Add' if job.outcome == 'ADDED' else 'Remove'} besteffort type for the job {job.job_id}.")


def _show_termination(job: JobOutcome) -> None:
    click.echo(f"Force the termination of the job = {job.job_id} ...{job.outcome}" + ("" if job.status else "."))


def main() -> None:
    run(oardel)
