"""``oarpy``: an instance as a whole, for the one who runs it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import NoReturn

import click

from oarpy.commands.completion import completion
from oarpy.commands.listing import shown_hosts
from oarpy.commands.manual import man
from oarpy.commands.nodes import nodes
from oarpy.commands.quotas import quotas
from oarpy.commands.session import OarGroup, administered_instance, own_instance, run, tell, with_version
from oarpy.commands.simulate import simulate
from oarpy.errors import ConfigurationError

# The modules that reach PostgreSQL take 0.2 s to import; `oarpy --help` does without.


@click.group("oarpy", cls=OarGroup)
@with_version
def oarpy() -> None:
    """Start, stop and examine an instance of oarpy.

    OARPY_HOME names its directory; without it, root means /var/lib/oarpy and anybody
    else ~/.local/share/oarpy, or the machine's instance if there is one.

    \b
    Example:
        oarpy up
        OARPY_HOME=/tmp/trial oarpy up
    """


@oarpy.command("up")
def up() -> None:
    """Make the instance if it is not there, and start what is not running.

    A new instance gets a private PostgreSQL, this machine's cores as resources, and
    a configuration to edit (OARPY_HOME/oarpy.toml).

    \b
    Example:
        oarpy up
    """
    from oarpy import settings
    from oarpy.almighty import bringing_up

    instance = own_instance()
    try:
        new = bringing_up.make_home(instance)
    except OSError as error:
        raise ConfigurationError(f"{instance.home} cannot be made: {error.strerror}") from error
    click.echo(f"instance   {instance.home}{' (new)' if new else ''}")
    values = settings.load(instance.settings_file)
    prepared = bringing_up.prepare(instance, values)
    if instance.database_url is None:
        click.echo(f"database   {instance.socket_dir}, {_did(prepared.server_started)}")
    else:
        click.echo("database   the site's")
    if prepared.schema_changed:
        click.echo("schema     upgraded")
    if prepared.cores_added:
        click.echo(f"resources  the {prepared.cores_added} core(s) of {os.uname().nodename} added")
    running = bringing_up.running_almighty(instance)
    keeper = bringing_up.keeper_pid(instance)
    if keeper is None and running is None:
        keeper = bringing_up.start_keeper(instance)
    almighty = bringing_up.wait_for_almighty(instance, keeper)
    click.echo(f"almighty   pid {almighty}, {_did(running is None)}")


@oarpy.command("down")
def down() -> None:
    """Stop almighty and the private PostgreSQL; jobs run on and are found again by the next up.

    \b
    Example:
        oarpy down
    """
    from oarpy import settings
    from oarpy.almighty import bringing_up

    instance = own_instance()
    if not os.path.isdir(instance.home):
        sentence = f"there is no instance in {instance.home}; OARPY_HOME names another one, oarpy up makes it"
        raise ConfigurationError(sentence)
    stopped = bringing_up.stop(instance)
    click.echo(f"almighty   {'stopped; jobs run on' if stopped.almighty else 'was not running'}")
    if stopped.database is not None:
        click.echo(f"database   {'stopped' if stopped.database else 'was not running'}")
    try:
        settings.load(instance.settings_file)
    except ConfigurationError as error:
        tell(f"{error}; oarpy up refuses to start until this is mended")


@oarpy.command("status")
@click.option("-J", "--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def status(as_json: bool) -> None:
    """Show who leads, the processes, the queues and the resources.

    \b
    Example:
        oarpy status --json
    """
    from oarpy.almighty import bringing_up

    seen = bringing_up.look(administered_instance())
    if as_json:
        click.echo(json.dumps(asdict(seen), default=str))
        return
    if seen.leader is None:
        click.echo("leader     none yet")
    else:
        leader = seen.leader
        click.echo(
            f"leader     pid {leader.pid} on {leader.host}, epoch {leader.epoch}, heard {leader.silent_for_s:.1f} s ago"
        )
    for process in seen.processes:
        restarts = f", {process.restarts} restart(s)" if process.restarts is not None else ""
        at_work = "at rest" if process.pid is None else f"pid {process.pid}"
        click.echo(f"process    {process.name}, {at_work} on {process.host}{restarts}")
    for queue in seen.queues:
        jobs = ", ".join(f"{count} {state}" for state, count in sorted(queue.jobs.items())) or "no jobs"
        click.echo(f"queue      {queue.name} ({queue.state}, priority {queue.priority}): {jobs}")
    for state, count in seen.resources.items():
        click.echo(f"resources  {count} {state}")
    if seen.last_pass is not None:
        click.echo("last pass  " + ", ".join(f"{name} {value}" for name, value in seen.last_pass.items()))


@oarpy.command("doctor")
@click.option("-J", "--json", "as_json", is_flag=True, help="One JSON list, for programs.")
def doctor(as_json: bool) -> int:
    """Examine the instance and this machine; the status is 1 when something must be mended.

    \b
    Example:
        oarpy doctor
    """
    from oarpy.almighty.doctor import Level, examine

    findings = []
    for finding in examine(administered_instance()):
        findings.append(finding)
        if not as_json:
            click.echo(f"{finding.level.value:8} {finding.subject:14} {finding.sentence}")
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings]))
    return int(any(finding.level is Level.BROKEN for finding in findings))


@oarpy.command("restore")
def restore() -> None:
    """Make a database that was read back from a backup fit to go on.

    It becomes a new instance to its nodes, and gives away none of the numbers that it may
    have given away since the backup.  Not for a database that was merely stopped: nothing
    more is heard of the jobs that run.  Almighty must not run.

    \b
    Example:
        oarpy restore
    """
    from oarpy import settings
    from oarpy.almighty import bringing_up

    instance = own_instance()
    restored = bringing_up.restore(instance, settings.load(instance.settings_file))
    click.echo(f"instance   {restored.identity} from now on")
    click.echo(f"jobs       the next one is {restored.last_job + 1} or later")
    if restored.begun:
        hosts = shown_hosts(restored.hosts)
        click.echo(f"begun      {restored.begun} on {hosts}; when nothing of them is left there, say so:")
        click.echo(f"           oarnodesetting -h '{hosts}' -s Dead --jobs-are-gone")
    if restored.not_begun:
        click.echo(f"not begun  {restored.not_begun}, which may have run since the backup; oarqueue -D keeps all back")


@oarpy.command("module")
@click.argument("name")
def module(name: str) -> None:
    """Run one turn of a module by hand, whether almighty runs or not, and tell what came of it.

    NAME is appendice, finaud, judas, leon, node_change_state, runner, sarko or scheduler.

    \b
    Example:
        oarpy module sarko
    """
    from oarpy.almighty import by_hand

    click.echo(by_hand.turn(own_instance(), name))


@oarpy.group("db", cls=OarGroup)
def db() -> None:
    """Prepare and upgrade the database.

    \b
    Example:
        oarpy db upgrade
    """


@db.command("upgrade")
def upgrade() -> None:
    """Bring the schema to the revision that this oarpy needs.

    Almighty need not be stopped for it; each migration says in its own words what it
    does to a running one.

    \b
    Example:
        oarpy db upgrade
    """
    from oarpy import settings
    from oarpy.almighty import bringing_up

    instance = own_instance()
    prepared = bringing_up.prepare(instance, settings.load(instance.settings_file))
    click.echo("schema     upgraded" if prepared.schema_changed else "schema     already the newest")


@db.command("bootstrap")
def bootstrap() -> None:
    """Print the SQL that makes a site's own PostgreSQL ready, for its superuser to run.

    \b
    Example:
        oarpy db bootstrap | sudo -u postgres psql -v ON_ERROR_STOP=1
    """
    from oarpy.drivers.postgresql import bootstrap_sql

    click.echo(bootstrap_sql("cluster"))
    absent = "WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'oar')"
    click.echo(f"SELECT 'CREATE DATABASE oar OWNER oar' {absent} \\gexec\n\\connect oar\n")
    click.echo(bootstrap_sql("database"))
    click.echo(bootstrap_sql("access"))


oarpy.add_command(quotas)


oarpy.add_command(nodes)


oarpy.add_command(simulate)


oarpy.add_command(man)


oarpy.add_command(completion)


def _did(started: bool) -> str:
    return "started" if started else "already running"


def main() -> NoReturn:
    """The program."""
    run(oarpy)
