"""What ``oarsub --dry-run`` prints."""

from __future__ import annotations

from collections.abc import Sequence

import click

from oarpy.commands import formats
from oarpy.commands.listing import shown_date, shown_hosts
from oarpy.model.payloads import Estimate


def print_estimates(estimates: Sequence[Estimate], style: str | None) -> None:
    """When and where each alternative would start, or why it would not."""
    if style:
        formats.write([estimate.to_json() for estimate in estimates], style)
        return
    click.echo("This would be accepted.")
    for estimate in estimates:
        if estimate.start_s is None:
            click.echo(f"{estimate.wanted}: does not start; {estimate.reason}")
        else:
            where = f" on {shown_hosts(estimate.hosts)}" if estimate.hosts else ""
            why = f"; {estimate.reason}" if estimate.reason else ""
            click.echo(f"{estimate.wanted}: starts {shown_date(estimate.start_s)}{where}{why}")
