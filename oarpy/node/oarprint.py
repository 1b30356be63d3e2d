#!/usr/bin/env python3
"""``oarprint``: the resources of a job, as a program wants them named.

It reads the file that OAR_RESOURCE_PROPERTIES_FILE names in a job, or what
``oarstat -p`` shows, and needs neither a server nor anything of oarpy: this file
alone, with python3 3.6 or later, may be copied to hosts where nothing is installed.
"""

import argparse
import os
import re
import sys
from typing import Dict, Iterable, List, Optional, Sequence, TextIO, Tuple

_PAIR = re.compile(r"([A-Za-z_][A-Za-z0-9_]*) = '(.*?)'(?= , [A-Za-z_][A-Za-z0-9_]* = '|$)")

Resource = Dict[str, str]


class Unprintable(Exception):
    """What is asked for is not there; the sentence is for the user."""


def read(lines: Iterable[str]) -> List[Resource]:
    """The resources of a file of properties, in its order."""
    return [dict(_PAIR.findall(line.strip())) for line in lines if line.strip()]


def opened(name: Optional[str]) -> TextIO:
    """The file ``name``, of which a dash is the standard input, else the one of the job; the caller closes it."""
    path = name or os.environ.get("OAR_RESOURCE_PROPERTIES_FILE")
    if path == "-":
        return sys.stdin
    if not path:
        raise Unprintable("this is not inside a job, and no file was named (-f)")
    try:
        return open(path, encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise Unprintable("%s cannot be read: %s" % (path, error.strerror)) from error


def names(resources: Sequence[Resource]) -> List[str]:
    """The properties that there are."""
    return sorted({name for resource in resources for name in resource})


def printed(
    resources: Sequence[Resource],
    key: str,
    properties: Sequence[str] = (),
    layout: Optional[str] = None,
    *,
    comma: str = ",",
    token: str = "%",
) -> List[str]:
    """One line for each value of ``key``.

    Each ``token`` of ``layout`` becomes the next of ``properties``, its values joined by
    ``comma``; properties for which no token is left follow, after a blank.
    """
    shown = [name for name in properties if name] or [key]
    known = set(names(resources))
    for name in [key, *shown]:
        if resources and name not in known:
            raise Unprintable("the resources have no property %r; -l lists those that they have" % name)
    if not token:
        raise Unprintable("-T must not be empty")
    groups: Dict[str, List[Resource]] = {}
    for resource in resources:
        groups.setdefault(resource.get(key, ""), []).append(resource)
    parts = (token if layout is None else layout).split(token)
    lines = []
    for value in sorted(groups, key=_by_number):
        columns = []
        for name in shown:
            found = {resource.get(name, "") for resource in groups[value]}
            columns.append(comma.join(sorted(found, key=_by_number)))
        lines.append(_filled(parts, columns))
    return lines


def _filled(parts: Sequence[str], columns: Sequence[str]) -> str:
    line = parts[0]
    for place, column in enumerate(columns):
        # Before the first one there is nothing to be parted from.
        line += column if place < len(parts) - 1 else (" " if place else "") + column
        if place + 1 < len(parts):
            line += parts[place + 1]
    return line + "".join(parts[len(columns) + 1 :])


def _by_number(value: str) -> Tuple[List[object], str]:
    """Such that node2 comes before node10."""
    pieces = re.split(r"(\d+)", value)
    return [int(piece) if place % 2 else piece for place, piece in enumerate(pieces)], value


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """The program where oarpy is not installed."""
    parser = argparse.ArgumentParser(
        prog="oarprint",
        description="Print the resources of a job, one line for each value of a property.",
        epilog="example: oarprint host -P host,core -F '%% cores %%' -C +",
    )
    parser.add_argument("key", nargs="?", metavar="PROPERTY")
    parser.add_argument("-f", "--file")
    parser.add_argument("-P", "--properties", default="")
    parser.add_argument("-F", "--format", dest="layout")
    parser.add_argument("-T", "--token", default="%")
    parser.add_argument("-C", "--comma", default=",")
    parser.add_argument("-l", "--list", action="store_true")
    said = parser.parse_args(arguments)
    try:
        with opened(said.file) as file:
            resources = read(file)
        if said.list:
            lines = ["List of properties:", ", ".join(names(resources))]
        elif said.key is None:
            raise Unprintable("which property? -l lists them")
        else:
            wanted = [name.strip() for name in said.properties.split(",")]
            lines = printed(resources, said.key, wanted, said.layout, comma=said.comma, token=said.token)
    except Unprintable as error:
        sys.stderr.write("oarprint: %s\n" % error)
        return 1
    sys.stdout.write("".join(line + "\n" for line in lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
