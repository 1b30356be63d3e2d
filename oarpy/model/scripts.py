"""``#OAR`` lines: options of ``oarsub`` that stand in the script itself."""

from __future__ import annotations

from oarpy.errors import SyntaxRefused
from oarpy.model.exit_statuses import ExitStatus

#: Their values look like SQL, whose quotes are not the shell's.
_VERBATIM = ("-l", "--resource", "-p", "--property")
#: The shell's own, and those that Nextflow marks in a path that it has quoted already.
_ESCAPED_IN_QUOTES = "\"\\$` '()!&|<>:"


def script_arguments(text: str) -> tuple[str, ...]:
    """The words of all ``#OAR`` lines of ``text``, as if typed after ``oarsub``.

    Words are split and unquoted as a shell does, but braces and the values of
    ``-l`` and ``-p`` that are not quoted as a whole stay as they stand:
    ``#OAR -l {cluster='a' and mem > 3}/host=1`` needs no second quoting.

    Raises:
        SyntaxRefused: with status 12, the first line is no comment or a quote is
            never closed.
    """
    lines = text.split("\n")
    if not lines[0].startswith("#"):
        raise SyntaxRefused(
            "the script's first line does not begin with #, as #!/bin/sh does",
            exit_status=ExitStatus.SCRIPT_OR_NOTHING_CHOSEN,
        )
    arguments: list[str] = []
    for number, line in enumerate(lines, 1):
        if line.startswith("#OAR") and line[4:5].isspace():
            arguments += _arguments(line[4:].rstrip(), number)
    return tuple(arguments)


def _arguments(line: str, number: int) -> list[str]:
    words = _words(line, number)
    arguments = []
    at = 0
    while at < len(words):
        option, start, end = words[at]
        at += 1
        if option in _VERBATIM:
            arguments.append(option)
            first = at
            while at < len(words) and not _is_option(words[at][0]):
                at += 1
            if at - first == 1 and line[words[first][1]] in "'\"":
                arguments.append(words[first][0])
            elif at > first:
                arguments.append(line[words[first][1] : words[at - 1][2]])
        elif option.startswith(tuple(f"{verbatim}=" for verbatim in _VERBATIM if verbatim.startswith("--"))):
            name, _, value = line[start:end].partition("=")
            arguments.append(option if value[:1] in ("'", '"') else f"{name}={value}")
        else:
            arguments.append(option)
    return arguments


def _is_option(word: str) -> bool:
    return word.startswith("-") and not word[1:2].isdigit() and len(word) > 1


def _words(line: str, number: int) -> list[tuple[str, int, int]]:
    """Each word unquoted, with the place in ``line`` where it stands."""
    words = []
    at = 0
    while at < len(line):
        if line[at].isspace():
            at += 1
            continue
        start = at
        parts = []
        while at < len(line) and not line[at].isspace():
            part, at = _part(line, at, number)
            parts.append(part)
        words.append(("".join(parts), start, at))
    return words


def _part(line: str, at: int, number: int) -> tuple[str, int]:
    """What the character at ``at`` begins, unquoted, and the place after it."""
    character = line[at]
    if character == "\\":
        return line[at + 1 : at + 2], at + 2
    if character == "{":
        end = _closing(line, at, number, "}")
        return line[at : end + 1], end + 1
    if character == "'":
        end = _closing(line, at, number, "'")
        return line[at + 1 : end], end + 1
    if character != '"':
        return character, at + 1
    inside = []
    at += 1
    while at < len(line) and line[at] != '"':
        if line[at] == "\\" and line[at + 1 : at + 2] in _ESCAPED_IN_QUOTES:
            at += 1
        inside.append(line[at : at + 1])
        at += 1
    if at >= len(line):
        raise _never_closed(number, '"')
    return "".join(inside), at + 1


def _closing(line: str, at: int, number: int, mark: str) -> int:
    """The place of ``mark`` after ``at``; one inside quotes closes no brace."""
    quote = ""
    for position in range(at + 1, len(line)):
        if line[position] == mark and not quote:
            return position
        if mark == "}" and line[position] in "'\"":
            quote = "" if quote == line[position] else quote or line[position]
    raise _never_closed(number, line[at])


def _never_closed(number: int, mark: str) -> SyntaxRefused:
    return SyntaxRefused(
        f"line {number} of the script has a {mark} that is never closed",
        exit_status=ExitStatus.SCRIPT_OR_NOTHING_CHOSEN,
    )
