"""``oarhold``: keep jobs from starting, or from going on."""

from __future__ import annotations

from typing import Any

import click

from oarpy.commands.jobs import named, names_jobs, order
from oarpy.commands.session import OarCommand, run, with_version


@click.command("oarhold", cls=OarCommand)
@names_jobs
@click.option("-r", "--running", is_flag=True, help="Suspend the jobs that run; others may use their resources.")
@with_version
def oarhold(running: bool, **options: Any) -> int:
    """Hold waiting jobs, and suspend running ones with -r: oarresume lets them go on.

    \b
    Examples:
        oarhold 4242 4243
        oarhold -r 4244
        oarhold --array 4242 --dry-run
    """
    return order(
        "suspend" if running else "hold",
        named(options),
        show=lambda job: click.echo(f"Holding the job = {job.job_id} ...{job.outcome}"),
    )


def main() -> None:
    run(oarhold)
