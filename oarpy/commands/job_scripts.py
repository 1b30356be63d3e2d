"""``oarsub -S``: a script whose lines ``#OAR`` name options."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, NamedTuple

import click

from oarpy.client.submissions import in_current_directory
from oarpy.commands.files import text_of
from oarpy.commands.session import is_said, tell
from oarpy.errors import RequestRefused, SyntaxRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.scripts import script_arguments
from oarpy.model.wording import excerpt

#: Options that a script may name and that add to those of the command line; the rest gives way to them.
_ADDED = ("resource", "type", "anterior")
#: What a script cannot say of itself: it is about other jobs, or about what the command does and prints.
_OF_THE_COMMAND = {
    "edit": "--edit",
    "edit_array": "--edit-array",
    "resubmit": "--resubmit",
    "only": "--only",
    "key": "--key",
    "wait": "--wait",
    "follow": "--follow",
    "interactive": "-I",
    "connect_to": "-C",
    "keep": "--keep",
    "scanscript": "-S",
    "dry_run": "--dry-run",
    "style": "a format (-J, -Y, -X, -D)",
    "verbose": "-v",
}
_BAD = ExitStatus.SCRIPT_OR_NOTHING_CHOSEN


class Script(NamedTuple):
    """The line for the shell that runs it, and what it says of itself.

    ``options`` are those of the command line, and those of the script that they leave room
    for; ``properties`` its filters, which come on top; ``arguments`` all that it says.
    """

    command: str
    options: Mapping[str, Any]
    properties: Sequence[str]
    arguments: Sequence[str]


def scanned(ctx: click.Context, options: Mapping[str, Any]) -> Script:
    """The script that the first word of the command names.

    Raises:
        RequestRefused: it cannot be run, or says of itself what no script can.
    """
    words: Sequence[str] = options["command"]
    if not words:
        raise RequestRefused("which script? Its name goes after -S", exit_status=ExitStatus.NOTHING_TO_DO)
    path, blank, arguments = words[0], "", ""
    if not os.path.exists(in_current_directory(path)):
        path, blank, arguments = words[0].partition(" ")
    path = os.path.abspath(in_current_directory(path))
    said = script_arguments(text_of(path, "script", _BAD))
    if not os.access(path, os.X_OK):
        raise RequestRefused(f"the script {excerpt(path)} is not executable; chmod +x makes it so", exit_status=_BAD)
    named = _named(ctx, path, said)
    command = " ".join([shlex.quote(path) + blank + arguments, *words[1:]])
    return Script(command, _merged(ctx, options, named), named.get("property", ()), said)


def _named(ctx: click.Context, path: str, said: Sequence[str]) -> dict[str, Any]:
    """The options that the script names."""
    command = copy(ctx.command)
    # What --help and --version print is not for who submits a script.
    command.params = [param for param in command.params if param.name != "version"]
    try:
        read = command.make_context("oarsub", list(said), help_option_names=[])
    except click.UsageError as error:
        raise SyntaxRefused(
            f"in an #OAR line of {excerpt(path)}: {error.format_message()}", exit_status=_BAD
        ) from error
    if read.params["command"]:
        word = excerpt(read.params["command"][0])
        raise SyntaxRefused(f"an #OAR line of {excerpt(path)} has {word}, which is no option", exit_status=_BAD)
    named = {name: value for name, value in read.params.items() if is_said(read, name)}
    for name, option in _OF_THE_COMMAND.items():
        if name in named:
            raise SyntaxRefused(
                f"an #OAR line of {excerpt(path)} has {option}, which is for the command line", exit_status=_BAD
            )
    return named


def _merged(ctx: click.Context, options: Mapping[str, Any], named: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(options)
    for name, value in named.items():
        if name in _ADDED:
            merged[name] = (*options[name], *value)
        elif name == "property":
            continue
        elif not is_said(ctx, name):
            merged[name] = value
        elif value != options[name]:
            tell(f"{_long_name(ctx, name)} of the script gives way to that of the command line")
    return merged


def _long_name(ctx: click.Context, name: str) -> str:
    options = next(param.opts for param in ctx.command.params if param.name == name)
    return next(option for option in options if option.startswith("--"))
