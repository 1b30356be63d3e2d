"""``oarpy man``: manual pages, made of the same text as ``--help``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from importlib import import_module

import click

from oarpy import __version__
from oarpy.commands.completion import programs
from oarpy.commands.session import OarCommand
from oarpy.errors import ConfigurationError

#: A quote ends or begins an argument of a macro; of the others some roffs make typographer's.
_ESCAPES = {"\\": "\\e", "-": "\\-", '"': "\\(dq", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}
_NEITHER_TEXT_NOR_EXAMPLE = re.compile(r"\x08\n?")


@click.command("man", cls=OarCommand)
@click.argument("directory", metavar="DIR")
def man(directory: str) -> None:
    """Write the manual pages of all commands into DIR/man1.

    \b
    Examples:
        oarpy man ~/.local/share/man
        oarpy man /usr/local/share/man
    """
    pages = os.path.join(directory, "man1")
    try:
        os.makedirs(pages, exist_ok=True)
        for name, command in commands().items():
            with open(os.path.join(pages, f"{name}.1"), "w", encoding="utf-8") as file:
                file.write(page(name, command))
    except OSError as error:
        raise ConfigurationError(f"{error.filename or pages} cannot be written: {error.strerror}") from error
    click.echo(f"{len(commands())} pages in {pages}")


def commands() -> dict[str, click.Command]:
    """The programs, by their names."""
    found = programs().items()
    return {name: getattr(import_module(f"oarpy.commands.{module}"), module) for name, module in found}


def page(name: str, command: click.Command) -> str:
    """The manual page of a program, its subcommands included."""
    said = _summary(command)
    lines = [
        f'.TH "{name.upper()}" "1" "" "oarpy {__version__}" "oarpy"',
        *(".SH NAME", f"{_plain(name)} \\- {_plain(said.rstrip('.'))}"),
        *(".SH SYNOPSIS", f".B {_plain(name)}", _plain(" ".join(_usage(name, command)))),
        *(".SH DESCRIPTION", *_described(command)),
        *_options(command, ".SH OPTIONS"),
        *(".SH EXAMPLES", ".nf", *map(_plain, examples(command)), ".fi"),
    ]
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        for words, below in _subcommands(name, command):
            lines += [f".SS {_plain(' '.join([words, *_usage(words, below)]))}", *_described(below)]
            lines += [".PP", ".nf", *map(_plain, ("Examples:", *(f"    {line}" for line in examples(below)))), ".fi"]
            lines += _options(below, None)
    others = ", ".join(f"{_plain(other)}(1)" for other in commands() if other != name)
    lines += [
        ".SH EXIT STATUS",
        "0 when all went well.  The other statuses, and what each means, stand in the reference of oarpy.",
        *(".SH ENVIRONMENT", ".TP", ".B OARPY_HOME", "The directory of the instance."),
        *(".SH SEE ALSO", others),
    ]
    return "\n".join(lines) + "\n"


def _subcommands(name: str, group: click.Group) -> Iterator[tuple[str, click.Command]]:
    for word, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from _subcommands(f"{name} {word}", command)
        elif not command.hidden:
            yield f"{name} {word}", command


def _summary(command: click.Command) -> str:
    return " ".join((command.help or "").partition("\n\n")[0].replace("\b", "").split())


def _usage(name: str, command: click.Command) -> list[str]:
    return command.collect_usage_pieces(click.Context(command, info_name=name))


def examples(command: click.Command) -> list[str]:
    """The lines that the help gives as examples."""
    return [
        line.strip() for heading, *lines in _paragraphs(command) if heading.rstrip("s:") == "Example" for line in lines
    ]


def _described(command: click.Command) -> Iterator[str]:
    """What else the help says; paragraphs of several lines stay as they are laid out."""
    first = True
    for lines in _paragraphs(command):
        if lines[0].rstrip("s:") == "Example":
            continue
        if not first:
            yield ".PP"
        first = False
        yield from (".nf", *map(_plain, lines), ".fi") if len(lines) > 1 else map(_plain, lines)


def _paragraphs(command: click.Command) -> Iterator[list[str]]:
    """Each of one line, except those that ``\\b`` begins."""
    for paragraph in re.split(r"\n\s*\n", _dedented(command.help or "")):
        if "\b" in paragraph:
            yield _NEITHER_TEXT_NOR_EXAMPLE.sub("", paragraph).strip("\n").split("\n")
        elif paragraph.strip():
            yield [" ".join(paragraph.split())]


def _dedented(text: str) -> str:
    import inspect

    return inspect.cleandoc(text)


def _options(command: click.Command, heading: str | None) -> list[str]:
    context = click.Context(command, info_name=command.name)
    records = [
        record
        for parameter in command.get_params(context)
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context)) is not None
    ]
    lines = [heading] if heading and records else []
    for names, said in records:
        lines += [".TP", f".B {_plain(names)}", _plain(" ".join(said.split()))]
    return lines


def _plain(text: str) -> str:
    """``text`` so that no character of it is one of roff's, nor printed as a prettier one."""
    escaped = "".join(_ESCAPES.get(each, each if each.isascii() else f"\\[u{ord(each):04X}]") for each in text)
    return "\\&" + escaped if escaped[:1] == "." else escaped
