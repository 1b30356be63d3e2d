"""``oarnotify``: let the server look at the tables now, and start, stop, add or remove queues."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import click

from oarpy.client import queues, resources
from oarpy.client.connection import Connection, wake_almighty
from oarpy.commands.oarqueue import add_queue, show_queues
from oarpy.commands.session import OarCommand, connect_as_admin, run, with_version
from oarpy.errors import RequestRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.states import QueueState
from oarpy.model.wording import excerpt

#: After each of these OAR's server looks for what has changed; oarpy's does so after any hint.
TAGS = ("Term", "Qsub", "Qdel", "Qresume", "Walltime", "Scheduling", "ChState", "BipBip", "Villains")
#: Makes the server check its hosts besides.
CHECK = "Finaud"


@click.command("oarnotify", cls=OarCommand)
@click.argument("tag", metavar="[TAG]", required=False)
@click.option("-e", "--enable-queue", "--enable_queue", "enabled", multiple=True, metavar="NAME", help="Start a queue.")
@click.option("-d", "--disable-queue", "--disable_queue", "disabled", multiple=True, metavar="NAME", help="Stop one.")
@click.option(
    "-E",
    "--Enable-all-queues",
    "--enable-all-queues",
    "--Enable_all_queues",
    "enable_all",
    is_flag=True,
    help="Start all queues.",
)
@click.option(
    "-D",
    "--Disable-all-queues",
    "--disable-all-queues",
    "--Disable_all_queues",
    "disable_all",
    is_flag=True,
    help="Stop all queues.",
)
@click.option(
    "--add-queue",
    "--add_queue",
    "added",
    multiple=True,
    metavar="NAME,PRIORITY[,POLICY]",
    help="Add a queue, as oarqueue --add does.",
)
@click.option("--remove-queue", "--remove_queue", "removed", multiple=True, metavar="NAME", help="Remove a queue.")
@click.option("-l", "--list-queues", "--list_queues", "listed", is_flag=True, help="Show the queues.")
@with_version
def oarnotify(
    tag: str | None,
    enabled: tuple[str, ...],
    disabled: tuple[str, ...],
    enable_all: bool,
    disable_all: bool,
    added: tuple[str, ...],
    removed: tuple[str, ...],
    listed: bool,
) -> None:
    """Let the server look at the tables now; before that, change queues as oarqueue does.

    \b
    Examples:
        oarnotify
        oarnotify --add-queue night,5 -e night

    What the commands change, and what is changed with psql, the server sees by
    itself.  TAG is one of OAR's, by default Term; Finaud lets every host be checked
    now.  Only root and the owner of the instance may.
    """
    changes: list[tuple[Callable[[Connection], object], str]] = []
    active, stopped = {"state": QueueState.ACTIVE.value}, {"state": QueueState.NOT_ACTIVE.value}
    if tag is not None and tag not in (*TAGS, CHECK):
        raise RequestRefused(
            f"{excerpt(tag)} means nothing to this server; it knows {', '.join((*TAGS, CHECK))}",
            exit_status=ExitStatus.UNSUPPORTED,
        )
    for text in added:
        add_queue(text)
        click.echo(f"Add queue {text.split(',')[0]}.")
    for name in removed:
        changes.append((partial(queues.remove_queue, name=name), f"Remove queue {name}."))
    for name in enabled:
        changes.append((partial(queues.change_queue, name=name, changes=active), f"Enable queue {name}."))
    for name in disabled:
        changes.append((partial(queues.change_queue, name=name, changes=stopped), f"Disable queue {name}."))
    if enable_all:
        changes.append((partial(queues.set_every_queue, state=active["state"]), "Enable all queues."))
    if disable_all:
        changes.append((partial(queues.set_every_queue, state=stopped["state"]), "Disable all queues."))
    connection: Connection = connect_as_admin()
    for change, said in changes:
        connection.transaction(change)
        click.echo(said)
    if listed:
        show_queues(as_json=False)
    if tag == CHECK:
        connection.transaction(resources.check_hosts)
    connection.transaction(wake_almighty)


def main() -> None:
    run(oarnotify)
