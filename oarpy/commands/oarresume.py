"""``oarresume``: release jobs that were held or suspended."""

from __future__ import annotations

import click

from oarpy.commands.jobs import names_jobs, order
from oarpy.commands.session import OarCommand, run, with_version

UNSUPPORTED = {"--sql": "choosing jobs by a condition"}


@click.command("oarresume", cls=OarCommand, unsupported=UNSUPPORTED)
@names_jobs
@with_version
def oarresume(ids: tuple[str, ...], arrays: tuple[str, ...]) -> int:
    """Release jobs that oarhold, or oarsub --hold, holds; suspended ones go on when what they held is free again.

    \b
    Example:
        oarresume 4242 4243
    """
    return order(
        "resume", ids, arrays, show=lambda job: click.echo(f"Resuming the job = {job.job_id} ...{job.outcome}")
    )


def main() -> None:
    run(oarresume)
