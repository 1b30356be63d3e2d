"""``oarprint``: the resources of a job, as a program wants them named."""

from __future__ import annotations

import click

from oarpy.commands.session import OarCommand, run, with_version
from oarpy.errors import RequestRefused, SyntaxRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.node import oarprint as program


@click.command("oarprint", cls=OarCommand)
@click.argument("key", metavar="PROPERTY", required=False)
@click.option("-f", "--file", metavar="FILE", help="Read this; - is the standard input. Inside a job: the job's own.")
@click.option("-P", "--properties", default="", metavar="NAME[,NAME]", help="What to print; by default PROPERTY.")
@click.option("-F", "--format", "layout", metavar="TEXT", help="In which each token becomes the next property; '%'.")
@click.option("-T", "--token", default="%", metavar="TEXT", help="Another token than '%'.")
@click.option("-C", "--comma", default=",", metavar="TEXT", help="What parts several values of one property; ','.")
@click.option("-l", "--list", "as_list", is_flag=True, help="List the properties that there are.")
@with_version
def oarprint(
    key: str | None, file: str | None, properties: str, layout: str | None, token: str, comma: str, as_list: bool
) -> None:
    """Print the resources of a job: one line for each value of PROPERTY, sorted.

    \b
    Examples:
        oarprint host -P host,core -F '% cores %' -C +
        oarstat -j 42 -p | oarprint network_address -f -
    """
    try:
        with program.opened(file) as lines:
            resources = program.read(lines)
        if as_list:
            click.echo("List of properties:\n" + ", ".join(program.names(resources)))
            return
        if key is None:
            raise SyntaxRefused("which property? -l lists them", exit_status=ExitStatus.REFUSED)
        wanted = [name.strip() for name in properties.split(",")]
        found = program.printed(resources, key, wanted, layout, comma=comma, token=token)
    except program.Unprintable as error:
        raise RequestRefused(str(error)) from error
    click.echo("".join(f"{line}\n" for line in found), nl=False)


def main() -> None:
    run(oarprint)
