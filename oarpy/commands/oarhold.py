"""``oarhold``: keep jobs from starting."""

from __future__ import annotations

import click

from oarpy.commands.jobs import names_jobs, order
from oarpy.commands.session import OarCommand, run, with_version

UNSUPPORTED = {
    "-r": "suspending a running job",
    "--running": "suspending a running job",
    "--sql": "choosing jobs by a condition",
}


@click.command("oarhold", cls=OarCommand, unsupported=UNSUPPORTED)
@names_jobs
@with_version
def oarhold(ids: tuple[str, ...], arrays: tuple[str, ...]) -> int:
    """Hold waiting jobs: they start when oarresume has released them.

    \b
    Example:
        oarhold 4242 4243
    """
    return order("hold", ids, arrays, show=lambda job: click.echo(f"Holding the job = {job.job_id} ...{job.outcome}"))


def main() -> None:
    run(oarhold)
