"""``oarresume``: release jobs that were held or suspended."""

from __future__ import annotations

from typing import Any

import click

from oarpy.commands.jobs import named, names_jobs, order
from oarpy.commands.session import OarCommand, run, with_version


@click.command("oarresume", cls=OarCommand)
@names_jobs
@with_version
def oarresume(**options: Any) -> int:
    """Release jobs that oarhold, or oarsub --hold, holds; suspended ones go on when what they held is free again.

    \b
    Examples:
        oarresume 4242 4243
        oarresume -u --sql "state = 'Hold'"
    """
    return order(
        "resume", named(options), show=lambda job: click.echo(f"Resuming the job = {job.job_id} ...{job.outcome}")
    )


def main() -> None:
    run(oarresume)
