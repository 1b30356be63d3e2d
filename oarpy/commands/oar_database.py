"""``oar-database``: make, upgrade, examine, empty or remove what oarpy has in its database."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import click

from oarpy.commands.session import OarCommand, own_instance, run, with_version
from oarpy.errors import ConfigurationError, RequestRefused, SyntaxRefused
from oarpy.instance import Instance
from oarpy.model.exit_statuses import ExitStatus

_PLACE = "where the database is; database.url says it, and oarpy db bootstrap prepares a site's"
UNSUPPORTED = {
    "--conf": "a configuration of OAR; this instance's is OARPY_HOME/oarpy.toml",
    "--update-conf": "writing a configuration of OAR",
    "--force-sql": "going on after a statement failed, which would leave half a schema",
    "-f": "going on after a statement failed, which would leave half a schema",
    "--debug": "showing statements; OARPY_TRACEBACK=1 shows where a defect arose",
    **dict.fromkeys(
        ("--db-type", "--db-host", "--db-port", "--db-name", "--db-user", "--db-pass", "--db-is-local"), _PLACE
    ),
    **dict.fromkeys(("--db-ro-user", "--db-ro-pass", "--db-admin-user", "--db-admin-pass"), _PLACE),
}


@click.command("oar-database", cls=OarCommand, unsupported=UNSUPPORTED)
@click.option("--create", is_flag=True, help="Make the schema in a database that has none.")
@click.option("--setup", is_flag=True, help="Make the schema, or upgrade it: whatever is needed.")
@click.option("--upgrade", is_flag=True, help="Bring the schema to the revision that this oarpy needs.")
@click.option("--check", is_flag=True, help="Tell which revision it is at; 78: not one that this oarpy can use.")
@click.option("--reset", is_flag=True, help="Remove all jobs, resources and rules, and make the schema anew.")
@click.option("--drop", is_flag=True, help="Remove the schema with all that is in it.")
@click.option("--fix-ro-user-priv", is_flag=True, help="Let the role oar_reader read every table again.")
@click.option("-y", "--force-yes", is_flag=True, help="With --reset and --drop: do not ask before.")
@with_version
def oar_database(
    create: bool,
    setup: bool,
    upgrade: bool,
    check: bool,
    reset: bool,
    drop: bool,
    fix_ro_user_priv: bool,
    force_yes: bool,
) -> None:
    """Make, upgrade, examine, empty or remove what oarpy has in its database.

    \b
    Examples:
        oar-database --setup
        oar-database --check
        oar-database --reset -y

    For the owner of the instance.  oarpy up makes all that is needed by itself;
    --reset and --drop refuse while the server runs.
    """
    if create + setup + upgrade + check + reset + drop + fix_ro_user_priv != 1:
        sentence = "one of --create, --setup, --upgrade, --check, --reset, --drop and --fix-ro-user-priv"
        raise SyntaxRefused(sentence, exit_status=ExitStatus.REFUSED)
    if force_yes and not (reset or drop):
        raise SyntaxRefused("-y goes with --reset and --drop", exit_status=ExitStatus.REFUSED)
    from oarpy import settings
    from oarpy.almighty import bringing_up
    from oarpy.almighty.preparation import start_database

    instance = own_instance()
    if create or setup:
        _make_home(instance)
    values = settings.load(instance.settings_file)
    if create or reset or drop:
        start_database(instance, values)
    if create and (found := bringing_up.examine_schema(instance).revision) is not None:
        raise RequestRefused(f"there is a schema already, at {found}; --upgrade brings it to the newest")
    if check:
        seen = bringing_up.examine_schema(instance)
        if seen.revision is None:
            raise ConfigurationError("the database has no schema yet; --create makes it")
        if seen.revision != seen.newest:
            raise ConfigurationError(f"the schema is at {seen.revision}, this oarpy's at {seen.newest}; --upgrade")
        click.echo(f"schema     {seen.revision}, the newest")
        return
    if fix_ro_user_priv:
        bringing_up.let_readers_read(instance)
        click.echo("oar_reader reads every table and view")
        return
    if reset or drop:
        seen = bringing_up.examine_schema(instance)
        _agree({"jobs that are not over": seen.live, "jobs that are on hosts": seen.begun}, yes=force_yes)
        removed = bringing_up.remove_schema(instance)
        click.echo("schema     removed" if removed else "schema     there was none")
    if not drop:
        prepared = bringing_up.prepare(instance, values)
        click.echo(
            "schema     made"
            if create or reset
            else "schema     upgraded"
            if prepared.schema_changed
            else "schema     already the newest"
        )
        if prepared.cores_added:
            click.echo(f"resources  the {prepared.cores_added} core(s) of this machine added")


def _make_home(instance: Instance) -> None:
    from oarpy.almighty import bringing_up

    try:
        bringing_up.make_home(instance)
    except OSError as error:
        raise ConfigurationError(f"{instance.home} cannot be made: {error.strerror}") from error


def _agree(lost: Mapping[str, int], *, yes: bool) -> None:
    """Ask whether all is to be removed; raises ``RequestRefused`` unless somebody says so."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise RequestRefused("nobody is there to agree; -y removes all without asking")
    besides = "".join(f", {count} {what} among it" for what, count in lost.items() if count)
    if not click.confirm(f"Remove all that oarpy has in the database{besides}?", err=True):
        raise RequestRefused("nothing was removed")


def main() -> None:
    run(oar_database)
