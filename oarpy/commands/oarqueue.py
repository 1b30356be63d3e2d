"""``oarqueue``: the queues of jobs."""

from __future__ import annotations

import json
from collections.abc import Callable

import click

from oarpy.client import queues
from oarpy.client.connection import Connection
from oarpy.commands.session import OarCommand, connect, connect_as_admin, run, tell, with_version
from oarpy.errors import SyntaxRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.states import Ordering, QueueState, Replan
from oarpy.model.wording import excerpt

#: What scheduling there is for those whose scripts name OAR's.
SCHEDULERS = {
    "fifo": Ordering.FIFO,
    "oar_sched_gantt_with_timesharing": Ordering.FIFO,
    "oar_sched_gantt_with_timesharing_and_placeholders": Ordering.FIFO,
    "oar_sched_gantt_with_timesharing_and_fairsharing": Ordering.FAIRSHARE,
    "oar_sched_gantt_with_timesharing_and_fairsharing_and_quotas": Ordering.FAIRSHARE,
    "oar_sched_gantt_with_timesharing_and_fairsharing_and_placeholders": Ordering.FAIRSHARE,
    "fairsharing": Ordering.FAIRSHARE,
    "kamelot": Ordering.FIFO,
    "multifactor": Ordering.MULTIFACTOR,
}
_FAR = 10**9


@click.command("oarqueue", cls=OarCommand)
@click.option("-l", "--list", "as_list", is_flag=True, help="Show the queues; so does no option at all.")
@click.option("-e", "--enable", metavar="NAME", help="Let the jobs of a queue start.")
@click.option("-d", "--disable", metavar="NAME", help="Let no job of a queue start.")
@click.option("-E", "--enable-all", "--enable-all-queues", is_flag=True, help="The same for all queues.")
@click.option("-D", "--disable-all", "--disable-all-queues", is_flag=True, help="The same for all queues.")
@click.option(
    "--add",
    metavar="NAME,PRIORITY[,POLICY]",
    help="Add a queue; POLICY is conservative (the default), easy, first:N, or a scheduler of OAR.",
)
@click.option("--change", metavar="NAME,PRIORITY[,POLICY]", help="Change a queue.")
@click.option(
    "--ordering",
    metavar="NAME,ORDERING",
    help="In which order the jobs of a queue are looked at: fifo (the default), fairshare, or multifactor.",
)
@click.option(
    "--replan",
    metavar="NAME,HOW",
    help="earlier (the default): planned starts only move earlier; nothing: they are made again in each pass.",
)
@click.option("--remove", metavar="NAME", help="Remove a queue without jobs.")
@click.option("-J", "--json", "as_json", is_flag=True, help="Show them as JSON.")
@with_version
def oarqueue(
    as_list: bool,
    enable: str | None,
    disable: str | None,
    enable_all: bool,
    disable_all: bool,
    add: str | None,
    change: str | None,
    ordering: str | None,
    replan: str | None,
    remove: str | None,
    as_json: bool,
) -> None:
    """Show, add, change, start, stop or remove queues.

    \b
    Examples:
        oarqueue
        oarqueue --add night,5,easy
        oarqueue --ordering default,fairshare
        oarqueue --replan default,nothing
        oarqueue -d default

    Only root and the owner of the instance may change them.
    """
    named = [each for each in (enable, disable, add, change, ordering, replan, remove) if each is not None]
    if len(named) + enable_all + disable_all + (as_list or as_json) > 1:
        raise SyntaxRefused("only one change at a time", exit_status=ExitStatus.REFUSED)
    if enable is not None:
        _change(lambda conn: queues.change_queue(conn, enable, {"state": QueueState.ACTIVE.value}))
    elif disable is not None:
        _change(lambda conn: queues.change_queue(conn, disable, {"state": QueueState.NOT_ACTIVE.value}))
    elif enable_all or disable_all:
        state = QueueState.ACTIVE if enable_all else QueueState.NOT_ACTIVE
        _change(lambda conn: queues.set_every_queue(conn, state.value))
    elif add is not None:
        add_queue(add)
    elif change is not None:
        named_queue, priority, planned = _queue(change)
        _change(lambda conn: queues.change_queue(conn, named_queue, {"priority": priority, **planned}))
    elif ordering is not None:
        name, chosen = _one_of(ordering, Ordering)
        _change(lambda conn: queues.change_queue(conn, name, {"ordering": chosen}))
    elif replan is not None:
        name, chosen = _one_of(replan, Replan)
        _change(lambda conn: queues.change_queue(conn, name, {"replan": chosen}))
    elif remove is not None:
        _change(lambda conn: queues.remove_queue(conn, remove))
    else:
        show_queues(as_json)


def _change(work: Callable[[Connection], None]) -> None:
    connection: Connection = connect_as_admin()
    connection.transaction(work)


def add_queue(text: str) -> None:
    """Add the queue ``name,priority[,policy]``."""
    name, priority, planned = _queue(text)

    def write(conn: Connection) -> None:
        queues.add_queue(conn, name, priority)
        if planned:
            queues.change_queue(conn, name, planned)

    _change(write)


def _queue(text: str) -> tuple[str, int, dict[str, object]]:
    """Name, priority, and what to set besides, of ``name,priority[,policy]``."""
    parts = [part.strip() for part in text.split(",")]
    try:
        # What the column cannot even hold is refused for the same reason as what it may not.
        name, priority = parts[0], max(-_FAR, min(int(parts[1]), _FAR))
        if len(parts) > 3:
            raise ValueError
        return name, priority, _policy(parts[2]) if len(parts) == 3 else {}
    except (ValueError, IndexError):
        sentence = f"{excerpt(text)} is not NAME,PRIORITY[,POLICY], such as night,5"
        raise SyntaxRefused(sentence, exit_status=ExitStatus.REFUSED) from None


def _policy(text: str) -> dict[str, object]:
    """The columns of a policy: one of oarpy's, or the name of a scheduler of OAR."""
    if text in SCHEDULERS:
        ordering = SCHEDULERS[text]
        tell(f"{text} means here the policy conservative and the ordering {ordering.value}")
        return {"policy": "conservative", "depth": None, "ordering": ordering.value}
    policy, colon, depth = text.partition(":")
    return {"policy": policy, "depth": int(depth) if colon else None}


def _one_of(text: str, kinds: type[Ordering] | type[Replan]) -> tuple[str, str]:
    """Name and kind of ``name,kind``."""
    name, _, chosen = text.rpartition(",")
    known = [kind.value for kind in kinds]
    if chosen not in known:
        word = kinds.__name__.upper()
        raise SyntaxRefused(
            f"{excerpt(text)} is not NAME,{word}; known are {', '.join(known)}", exit_status=ExitStatus.REFUSED
        )
    return name, chosen


def show_queues(as_json: bool) -> None:
    found = queues.queues(connect())
    if as_json:
        click.echo(json.dumps({queue.pop("queue_name"): queue for queue in found}, indent=2))
        return
    for queue in found:
        policy = queue["policy"] if queue["depth"] is None else f"{queue['policy']}:{queue['depth']}"
        click.echo(
            f"{queue['queue_name']}\npriority = {queue['priority']}\npolicy = {policy}\n"
            f"ordering = {queue['ordering']}\nreplan = {queue['replan']}\n{queue['state']}\n"
        )


def main() -> None:
    run(oarqueue)
