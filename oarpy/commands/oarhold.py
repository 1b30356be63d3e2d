"""``oarhold``: keep jobs from starting, or from going on."""

from __future__ import annotations

import click

from oarpy.commands.jobs import names_jobs, order
from oarpy.commands.session import OarCommand, run, with_version

UNSUPPORTED = {
    "--sql": "choosing jobs by a condition",
}


@click.command("oarhold", cls=OarCommand, unsupported=UNSUPPORTED)
@names_jobs
@click.option("-r", "--running", is_flag=True, help="Suspend the jobs that run; others may use their resources.")
@with_version
def oarhold(ids: tuple[str, ...], arrays: tuple[str, ...], running: bool) -> int:
    """Hold waiting jobs, and suspend running ones with -r: oarresume lets them go on.

    \b
    Examples:
        oarhold 4242 4243
        oarhold -r 4244
    """
    return order(
        "suspend" if running else "hold",
        ids,
        arrays,
        show=lambda job: click.echo(f"Holding the job = {job.job_id} ...{job.outcome}"),
    )


def main() -> None:
    run(oarhold)
