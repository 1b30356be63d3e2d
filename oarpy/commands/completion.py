"""Completion for bash, zsh and fish: ids of jobs, queues, properties, hosts, options and their values.

The shell's script asks ``oarpy complete`` for the words that fit; with an instance that
does not answer there are only options.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any

import click

from oarpy.commands import start
from oarpy.commands.session import OarCommand
from oarpy.errors import OarError
from oarpy.instance import find_instance

SHELLS = ("bash", "zsh", "fish")
#: Names that no module can have.
_SPELT = {"oar_database": "oar-database"}
#: Told to the shell instead of words: names of files fit.
FILES = "<files>"
MOST = 500
TYPES = (
    *("besteffort", "container", "cosystem", "deadline=", "deploy", "expire=", "idempotent", "inner=", "nice=", "noop"),
    *("placeholder=", "allowed=", "postpone=", "reassign", "state=permissive", "timesharing=", "token:"),
)
# Bash breaks words at "=" and ":", and keeps quotes; oarpy answers to the line what goes in place of the word.
_BASH = """\
_oarpy() {
    local line word=${COMP_WORDS[COMP_CWORD]}
    [[ $word == [=:] ]] && word=
    COMPREPLY=()
    while IFS= read -r line; do
        if [ "$line" = "<files>" ]; then
            compopt -o filenames
            while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$word")
        else
            COMPREPLY+=("$line")
        fi
    done < <(oarpy complete --line "${COMP_LINE:0:COMP_POINT}" "$word" 2>/dev/null)
    [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace
    return 0
}
complete -F _oarpy PROGRAMS
"""
# Found in a directory of $fpath the file is the function; read with `source` it defines it.
_ZSH = """\
#compdef PROGRAMS
_oarpy() {
    local -a found
    found=(${(f)"$(oarpy complete "${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)"})
    if [[ ${found[1]} == "<files>" ]]; then
        _files
    else
        compadd -S '' -- ${(M)found:#*=}
        compadd -- ${found:#*=}
    fi
}
if [[ ${funcstack[1]} == _oarpy ]]; then
    _oarpy "$@"
else
    compdef _oarpy PROGRAMS
fi
"""
_FISH = """\
function __oarpy_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in (oarpy complete $words 2>/dev/null)
        if test "$line" = "<files>"
            __fish_complete_path (commandline -ct)
        else
            echo $line
        end
    end
end
for program in PROGRAMS
    complete -c $program -f -a '(__oarpy_complete)'
end
"""


@click.command("completion", cls=OarCommand)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print what makes SHELL (bash, zsh or fish) complete options, jobs, queues, properties and hosts.

    \b
    Examples:
        oarpy completion bash > ~/.local/share/bash-completion/completions/oarpy
        oarpy completion fish > ~/.config/fish/completions/oarpy.fish
    """
    script = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}[shell]
    click.echo(script.replace("PROGRAMS", " ".join(programs())), nl=False)


def programs() -> dict[str, str]:
    """All commands that have a name of their own, with the name of their module."""
    return {_SPELT.get(name, name): name for name, value in vars(start).items() if isinstance(value, partial)}


def main(words: Sequence[str]) -> int:
    """Print the words that fit the last of ``words``, one a line; ``words`` are a command line so far.

    With ``--line`` they are such a line, unbroken, and the part of its last word that the
    shell will replace.
    """
    settled = 0
    if words[:1] == ["--line"] and len(words) == 3:
        *_, line, replaced = words
        words = _broken(line)
        settled = max(0, len(_unquoted(words[-1])) - len(_unquoted(replaced)))
    with suppress(BrokenPipeError, KeyboardInterrupt):
        for word in list(candidates([*words[:-1], *map(_unquoted, words[-1:])]))[:MOST]:
            sys.stdout.write(f"{word if word == FILES else word[settled:]}\n")
        sys.stdout.flush()
    return 0


def _broken(line: str) -> list[str]:
    """The words of a line that is still being written; the last is what stands before the cursor."""
    import shlex

    # The mark at its end keeps a word that is empty so far, and each end closes a quote that is open.
    for end in ("|", "|'", '|"'):
        with suppress(ValueError):
            *before, last = shlex.split(line + end)
            return [*before, last[:-1]]
    return [""]


def _unquoted(word: str) -> str:
    return word[1:] if word[:1] in ("'", '"') else word


def candidates(words: Sequence[str]) -> Iterator[str]:
    """What the last of ``words`` may become; `FILES` stands for names of files."""
    name = os.path.basename(words[0]) if words else ""
    if name not in programs() or len(words) < 2:
        return
    module = programs()[name]
    command: click.Command = getattr(import_module(f"oarpy.commands.{module}"), module)
    *before, last = words[1:]
    while isinstance(command, click.Group):
        below = next((word for word in before if word in command.commands), None)
        if below is None:
            yield from _fitting(last, (*command.commands, *_options_of(command)))
            return
        before = before[before.index(below) + 1 :]
        command = command.commands[below]
    option, value = _open_option(command, before, last)
    if option is not None:
        prefix = last[: len(last) - len(value)]
        for word in _values(name, option, value):
            yield word if word == FILES else prefix + word
    elif last.startswith("-"):
        yield from _fitting(last, _options_of(command))
    else:
        for choices in _choices_of_arguments(command):
            yield from _fitting(last, map(str, choices))
        yield from _arguments(name, last)


def _options_of(command: click.Command) -> list[str]:
    context = click.Context(command, info_name=command.name)
    return [
        name
        for parameter in command.get_params(context)
        if isinstance(parameter, click.Option) and not parameter.hidden
        for name in (*parameter.opts, *parameter.secondary_opts)
    ]


def _choices_of_arguments(command: click.Command) -> Iterator[Iterable[Any]]:
    for parameter in command.params:
        if isinstance(parameter, click.Argument) and isinstance(parameter.type, click.Choice):
            yield parameter.type.choices


def _open_option(command: click.Command, before: Sequence[str], last: str) -> tuple[click.Option | None, str]:
    """The option whose value ``last`` is or has, and as much of the value as is there."""
    known = {
        name: parameter
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for name in parameter.opts
    }
    name, equals, value = last.partition("=")
    if last.startswith("--") and equals and name in known:
        return known[name], value
    option = known.get(before[-1]) if before else None
    if option is None or option.is_flag or option.count or last.startswith("-"):
        return None, ""
    return option, last


def _values(name: str, option: click.Option, value: str) -> Iterable[str]:
    if isinstance(option.type, click.Choice):
        return _fitting(value, map(str, option.type.choices))
    match name, option.name:
        case _, "queue":
            return _fitting(value, _queues())
        case "oarqueue", "enable" | "disable" | "change" | "remove":
            return _fitting(value, _queues())
        case ("oarsub", "property" | "resource") | ("oarnodesetting", "properties") | ("oarnodes", "sql"):
            return _property(value)
        case "oarproperty", "removed" | "rename":
            return _fitting(value, _properties())
        case _, "type":
            return _fitting(value, TYPES)
        case _, "jobs" | "arrays" | "edit" | "edit_array" | "why" | "forecast" | "anterior":
            return _jobs(value, mine=option.name != "anterior")
        case _, "resubmit":
            return _jobs(value, over=True)
        case _, "hosts":
            return _hosts(value)
        case _, "stdout" | "stderr" | "directory" | "array_param_file":
            return (FILES,)
    return ()


def _arguments(name: str, last: str) -> Iterable[str]:
    match name:
        case "oardel" | "oarhold" | "oarresume" | "oarwalltime":
            return _jobs(last)
        case "oarnodes":
            return _hosts(last)
        case "oarsub":
            return (FILES,)
    return ()


def _fitting(begin: str, words: Iterable[str]) -> list[str]:
    return [word for word in dict.fromkeys(words) if word.startswith(begin)]


def _rows(statement: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """What the instance says, nothing when it does not answer."""
    from oarpy.client.connection import Connection

    try:
        found: list[tuple[Any, ...]] = Connection.open(find_instance(), "completion").rows(statement, parameters)
    except OarError:
        return []
    return found


def _queues() -> list[str]:
    return [name for (name,) in _rows("SELECT queue_name FROM oar.visible_queues ORDER BY 1")]


def _properties() -> list[str]:
    return [name for (name,) in _rows("SELECT name FROM oar.visible_properties ORDER BY 1")]


def _property(begin: str) -> list[str]:
    """``begin`` with the name of a property that it ends with, in a filter or a request."""
    at = max(begin.rfind(mark) for mark in "/{( ,+[") + 1
    names = ["nodes", "resource_id", "network_address", "type", "walltime"]
    names += _properties()
    return [f"{begin[:at]}{name}=" for name in _fitting(begin[at:], names)]


def _jobs(begin: str, *, mine: bool = True, over: bool = False) -> list[str]:
    statement = (
        "SELECT job_id::text FROM oar.visible_jobs WHERE stopped_at IS "
        f"{'NOT ' if over else ''}NULL{' AND job_user = oar.me()' if mine else ''} ORDER BY job_id DESC LIMIT %s"
    )
    return _fitting(begin, (job_id for (job_id,) in _rows(statement, (MOST,))))


def _hosts(begin: str) -> list[str]:
    statement = "SELECT DISTINCT network_address FROM oar.visible_resources WHERE network_address <> '' ORDER BY 1"
    return _fitting(begin, (host for (host,) in _rows(statement)))
