"""``oaradmissionrules``: the rules that each submission passes."""

from __future__ import annotations

import ast
import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial

import click

from oarpy.client import rules
from oarpy.client.connection import Connection
from oarpy.client.rules import Rule
from oarpy.commands.session import OarCommand, connect_as_admin, run, with_version
from oarpy.errors import RequestRefused, SyntaxRefused
from oarpy.instance import find_instance
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.wording import excerpt

#: What an option has that was given without a value.
_LEFT_OUT = "\0"
_NEW = """from oarpy.actions.admission import Refuse, Submission


def admit(submission: Submission) -> None:
    pass
"""


@click.command("oaradmissionrules", cls=OarCommand)
@click.option("-S", "--show-all", is_flag=True, help="Show all rules, in the order in which they are asked.")
@click.option("-s", "--show", metavar="RULE", help="Show one rule, by its number, or the name of its file.")
@click.option("-n", "--new", is_flag=True, help="Make a rule, in the database.")
@click.option("-m", "--modify", metavar="NUMBER", help="Change a rule of the database.")
@click.option("-d", "--delete", metavar="NUMBER", help="Delete a rule of the database.")
@click.option("-I", "--id", "ids", is_flag=True, help="With -S, -s: numbers alone.")
@click.option("-f", "--full", is_flag=True, help="With -S, -s: the whole rule, not its first line alone.")
@click.option("-H", "--no-header", is_flag=True, help="With -S, -s: the whole rule and nothing else.")
@click.option(
    "-w",
    "--to-file",
    is_flag=False,
    flag_value=_LEFT_OUT,
    metavar="[FILE]",
    help="With -S, -s: write the rule to a file that does not exist; %% in its name becomes the number.",
)
@click.option(
    "-e",
    "--edit",
    is_flag=False,
    flag_value=_LEFT_OUT,
    metavar="[EDITOR]",
    help="With -n, -m: edit the rule, with EDITOR or what the environment names.",
)
@click.option("-r", "--from-file", metavar="FILE", help="With -n, -m: read the rule from a file; - is standard input.")
@click.option("-P", "--priority", type=int, metavar="NUMBER", help="With -n, -m: its place among the others.")
@click.option("-Y", "--enabled", is_flag=True, help="With -S: only these.  With -n, -m: let it hold.")
@click.option("-N", "--disabled", is_flag=True, help="With -S: only these.  With -n, -m: do not let it hold.")
@click.option("-J", "--json", "as_json", is_flag=True, help="With -S, -s: as JSON, by number or file.")
@with_version
def oaradmissionrules(
    show_all: bool,
    show: str | None,
    new: bool,
    modify: str | None,
    delete: str | None,
    ids: bool,
    full: bool,
    no_header: bool,
    to_file: str | None,
    edit: str | None,
    from_file: str | None,
    priority: int | None,
    enabled: bool,
    disabled: bool,
    as_json: bool,
) -> None:
    """Show, make, change or delete admission rules.

    \b
    Examples:
        oaradmissionrules -S
        oaradmissionrules -s 10_default_queue.py -f
        oaradmissionrules -n -r night.py -P 45
        oaradmissionrules -m 1001 -N

    A rule is Python with a function admit.  The files of admission_rules.d are
    rules too, and are shown, numbered from 1 in the order in which they are asked; edit
    or remove them there.  Those of the database keep their numbers, from 1001 on.  Only
    root and the owner of the instance may.
    """
    if show_all + new + sum(each is not None for each in (show, modify, delete)) != 1:
        sentence = "one of -S, -s, -n, -m and -d says what to do, and only one"
        raise SyntaxRefused(sentence, exit_status=ExitStatus.REFUSED)
    if enabled and disabled:
        raise SyntaxRefused("-Y or -N, not both", exit_status=ExitStatus.REFUSED)
    showing = show_all or show is not None
    if not showing and (ids or full or no_header or as_json or to_file is not None):
        raise SyntaxRefused("-I, -f, -H, -w and -J go with -S and -s", exit_status=ExitStatus.REFUSED)
    writing = new or modify is not None
    if not writing and (edit is not None or from_file is not None or priority is not None):
        raise SyntaxRefused("-e, -r and -P go with -n and -m", exit_status=ExitStatus.REFUSED)
    if (enabled or disabled) and not (show_all or writing):
        raise SyntaxRefused("-Y and -N go with -S, -n and -m", exit_status=ExitStatus.REFUSED)
    if edit is not None and from_file is not None:
        raise SyntaxRefused("-e or -r, not both", exit_status=ExitStatus.REFUSED)
    holds = True if enabled else False if disabled else None
    connection: Connection = connect_as_admin()
    if showing and as_json:
        found = {rule.ident: rule._asdict() for rule in _chosen(connection, show, holds)}
        click.echo(json.dumps(found, indent=2))
    elif showing:
        layout = _layout(ids=ids, full=full, no_header=no_header, to_file=to_file)
        for rule in _chosen(connection, show, holds):
            layout(rule)
    elif delete is not None:
        number = _number(connection, delete)
        connection.transaction(partial(rules.remove, rule_id=number))
        click.echo(f"Admission rule deleted: #{number}")
    elif modify is not None:
        _modify(connection, _number(connection, modify), edit, from_file, priority, holds)
    else:
        text = _read(from_file) if from_file is not None else _edited(_NEW, edit or _LEFT_OUT)
        _check(text)
        named = "rule" if from_file in (None, "-") else os.path.basename(str(from_file))
        number = connection.transaction(lambda conn: rules.add(conn, named, priority or 0, holds is not False, text))
        click.echo(f"New admission rule created: #{number}")


def _modify(
    conn: Connection, number: int, edit: str | None, from_file: str | None, priority: int | None, holds: bool | None
) -> None:
    changes: dict[str, object] = {}
    if priority is not None:
        changes["priority"] = priority
    if holds is not None:
        changes["enabled"] = holds
    if edit is not None or from_file is not None:
        known = _chosen(conn, str(number), None)[0].text
        text = _read(from_file) if from_file is not None else _edited(known, str(edit))
        _check(text)
        changes["rule"] = text
    if not changes:
        sentence = "there is nothing to change; -e, -r, -P, -Y or -N says what"
        raise SyntaxRefused(sentence, exit_status=ExitStatus.REFUSED)
    conn.transaction(partial(rules.change, rule_id=number, changes=changes))
    click.echo(f"Admission rule modified: #{number}")


def _chosen(conn: Connection, ident: str | None, holds: bool | None) -> list[Rule]:
    found = rules.rules(conn, find_instance())
    if ident is not None:
        found = [rule for rule in found if ident.lstrip("#") in (rule.ident, str(rule.number))]
        if not found:
            raise RequestRefused(f"there is no rule {excerpt(ident)}; -S lists them")
    return [rule for rule in found if holds is None or rule.enabled is holds]


def _layout(*, ids: bool, full: bool, no_header: bool, to_file: str | None) -> Callable[[Rule], None]:
    if to_file is not None:
        return partial(_write, to_file=to_file)
    if no_header:
        return lambda rule: click.echo(rule.text, nl=not rule.text.endswith("\n"))
    if ids:
        return lambda rule: click.echo(rule.ident if rule.number is None else rule.number)
    return partial(_show, full=full)


def _show(rule: Rule, *, full: bool) -> None:
    off = "" if rule.enabled else "DISABLED/"
    text = rule.text.rstrip("\n") if full else next(iter(rule.text.splitlines()), "")
    names = [*([] if rule.number is None else [f"#{rule.number}"]), *([rule.ident] if rule.in_file else [])]
    click.echo(f"--- ({off}{rule.priority}) RULE {' '.join(names)}\n{text}\n---")


def _write(rule: Rule, *, to_file: str) -> None:
    try:
        if to_file == _LEFT_OUT:
            descriptor, path = tempfile.mkstemp(prefix=f"OAR-admission-rule.{rule.ident}.", suffix=".py")
            file = os.fdopen(descriptor, "w", encoding="utf-8")
        else:
            path = to_file.replace("%%", rule.ident)
            file = open(path, "x", encoding="utf-8")  # noqa: SIM115 (closed below)
        with file:
            file.write(rule.text)
    except OSError as error:
        raise RequestRefused(f"{to_file} cannot be written: {error.strerror}") from error
    click.echo(f"Admission rule #{rule.ident} written to {path}")


def _read(path: str) -> str:
    try:
        with click.open_file(path, encoding="utf-8") as file:
            return str(file.read())
    except OSError as error:
        raise RequestRefused(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RequestRefused(f"{path} is not text in UTF-8") from error


def _edited(text: str, editor: str) -> str:
    """``text`` as it is after somebody has edited it."""
    if editor == _LEFT_OUT:
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or shutil.which("editor") or "vi"
    with tempfile.NamedTemporaryFile("w+", suffix=".py", prefix="OAR-admission-rule.", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        try:
            done = subprocess.run([*shlex.split(editor), file.name], check=False)
        except (OSError, ValueError) as error:
            raise RequestRefused(f"{excerpt(editor)} cannot be run: {error}") from error
        if done.returncode:
            raise RequestRefused(f"{excerpt(editor)} ended with {done.returncode}; nothing was changed")
        return _read(file.name)


def _check(text: str) -> None:
    """Raises ``SyntaxRefused`` for what would refuse every submission, because it cannot be loaded."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        where = f"line {line}: " if line else ""
        raise SyntaxRefused(f"the rule is not Python ({where}{getattr(error, 'msg', error)})") from error
    named = {each.name for each in tree.body if isinstance(each, ast.FunctionDef)}
    named |= {
        target.id
        for each in tree.body
        if isinstance(each, ast.Assign)
        for target in each.targets
        if isinstance(target, ast.Name)
    }
    named |= {
        alias.asname or alias.name for each in tree.body if isinstance(each, ast.ImportFrom) for alias in each.names
    }
    if "admit" not in named:
        raise SyntaxRefused("the rule has no function admit(submission)")


def _number(conn: Connection, text: str) -> int:
    """The number of a rule of the database, which can be changed."""
    name = text.removeprefix("#")
    is_number = name.isascii() and name.isdigit() and len(name) <= 9
    if not is_number and not name.endswith(".py"):
        raise SyntaxRefused(f"{excerpt(text)} is not the number of a rule", exit_status=ExitStatus.REFUSED)
    rule = _chosen(conn, name, None)[0]
    if rule.in_file:
        place = rules.directory(find_instance())
        raise RequestRefused(f"rule {excerpt(name)} is the file {rule.ident}; edit or remove it in {place}")
    return int(rule.ident)


def main() -> None:
    run(oaradmissionrules)
