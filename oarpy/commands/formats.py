"""The formats of listings for programs: ``-J -Y -X -D``, one JSON object a line, and ``--fields``.

A listing is a document: text, numbers, booleans, None, lists and mappings whose keys are
text.  YAML, XML and Perl are written here by hand, in the shapes of OAR's own modules:
a library for each would cost every start of a command more than the listing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import click

from oarpy.commands.listing import printable
from oarpy.errors import RequestRefused
from oarpy.model.wording import excerpt

#: Of more entries each is one line of JSON: writing them indented takes five times as long.
INDENTED = 200
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "null", "~"})


def write(
    document: Mapping[str, Any] | Sequence[Any],
    style: str,
    *,
    names: tuple[str, str] = ("id", "value"),
    rows: Iterable[Mapping[str, Any]] | None = None,
) -> None:
    """Print ``document``; in NDJSON a line for each of ``rows``, which name what the document has as keys.

    Without ``rows`` the lines of NDJSON are the document's entries; ``names`` are the fields of one that is
    no mapping itself.
    """
    printed = list(rows) if style == "ndjson" and rows is not None else document
    click.echo(rendered(printed, style, names=names), nl=False)


def rendered(
    document: Mapping[str, Any] | Sequence[Any], style: str, *, names: tuple[str, str] = ("id", "value")
) -> str:
    """``document`` as text that ends its last line."""
    match style:
        case "json":
            return _harmless(_json(document))
        case "ndjson":
            return _harmless("".join(f"{_dense(entry)}\n" for entry in _entries(document, names)))
        case "yaml":
            return "---" + _yaml(document, "") + "\n"
        case "xml":
            return f'<?xml version="1.0" encoding="UTF-8"?>\n<perldata>\n{_xml(document, " ")}</perldata>\n'
        case "dumper":
            return _dumper(document, "") + "\n"
    raise ValueError(style)


def chosen(fields: str | None) -> tuple[str, ...]:
    """The names in ``--fields``."""
    return () if fields is None else tuple(dict.fromkeys(name.strip() for name in fields.split(",") if name.strip()))


def only(entries: Mapping[str, Mapping[str, Any]], fields: Sequence[str]) -> dict[str, dict[str, Any]]:
    """``entries`` with these fields alone; raises ``RequestRefused`` for one that they do not have."""
    for entry in entries.values():
        check_fields(fields, entry)
        break
    return {key: {name: entry.get(name) for name in fields} for key, entry in entries.items()}


def check_fields(fields: Iterable[str], known: Iterable[str]) -> None:
    """Raise ``RequestRefused`` for a field that is not ``known``."""
    there = list(known)
    for name in fields:
        if name not in there:
            from difflib import get_close_matches

            near = get_close_matches(name, there, 1)
            hint = f"did you mean {near[0]}?" if near else f"these are: {', '.join(sorted(there))}"
            raise RequestRefused(f"there is no field {excerpt(name)}; {hint}")


def table(entries: Mapping[str, Mapping[str, Any]], fields: Sequence[str]) -> list[str]:
    """Lines with the fields of ``entries`` in columns, under their names."""
    rows = [list(fields), *([_cell(entry[name]) for name in fields] for entry in only(entries, fields).values())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [" ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return ",".join(map(_cell, value)) or "-"
    text = value if isinstance(value, str) else _dense(value)
    return printable(text) or "-"


@cache
def _encoder() -> Callable[[object], str]:
    return json.JSONEncoder(ensure_ascii=False).encode


def _dense(value: object) -> str:
    return _encoder()(value)


def _json(document: Mapping[str, Any] | Sequence[Any]) -> str:
    if len(document) <= INDENTED:
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    if isinstance(document, Mapping):
        lines = (f"{_dense(key)}: {_dense(value)}" for key, value in document.items())
        return "{\n" + ",\n".join(lines) + "\n}\n"
    return "[\n" + ",\n".join(map(_dense, document)) + "\n]\n"


@cache
def _controls() -> re.Pattern[str]:
    return re.compile("[\x7f-\x9f\u2028\u2029]")


def _harmless(text: str) -> str:
    """JSON without the characters that control some terminals and that JSON itself lets pass."""
    return _controls().sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _entries(document: Mapping[str, Any] | Sequence[Any], names: tuple[str, str]) -> Iterator[Any]:
    if not isinstance(document, Mapping):
        yield from document
        return
    for key, value in document.items():
        # Ids are numbers wherever they are no keys.
        name = int(key) if names[0] == "id" and key.isdecimal() else key
        yield value if isinstance(value, Mapping) else {names[0]: name, names[1]: value}


def _yaml(value: Any, indent: str) -> str:
    """``value`` as it follows a key, a dash or the document's mark."""
    if isinstance(value, Mapping):
        if not value:
            return " {}"
        return "".join(f"\n{indent}{_yaml_text(key)}:{_yaml(each, indent + '  ')}" for key, each in value.items())
    if isinstance(value, list | tuple):
        if not value:
            return " []"
        return "".join(f"\n{indent}-{_yaml(each, indent + '  ')}" for each in value)
    if value is None:
        return " ~"
    return " " + (_yaml_text(value) if isinstance(value, str) else _dense(value))


@cache
def _plain() -> re.Pattern[str]:
    return re.compile(r"[A-Za-z_/][\w./@+-]*(?: [\w./@+-]+)*", re.ASCII)


def _yaml_text(text: str) -> str:
    if _plain().fullmatch(text) and text.lower() not in _WORDS:
        return text
    if text.isdecimal() and text.isascii() and (text == "0" or text[0] != "0"):
        return f"'{text}'"
    quoted = _dense(text)
    return quoted if quoted.isprintable() else "".join(map(_yaml_character, quoted))


def _yaml_character(character: str) -> str:
    code = ord(character)
    return character if character.isprintable() else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _xml(value: Any, indent: str) -> str:
    kind, items = ("hashref", value.items()) if isinstance(value, Mapping) else ("arrayref", enumerate(value))
    lines = [f"{indent}<{kind}>\n"]
    for key, each in items:
        name = _xml_text(str(key)).replace('"', "&quot;")
        if each is None:
            lines.append(f'{indent} <item key="{name}" defined="false"></item>\n')
        elif isinstance(each, Mapping | list | tuple):
            lines.append(f'{indent} <item key="{name}">\n{_xml(each, indent + "  ")}{indent} </item>\n')
        else:
            lines.append(f'{indent} <item key="{name}">{_xml_text(_perl_scalar(each))}</item>\n')
    lines.append(f"{indent}</{kind}>\n")
    return "".join(lines)


def _xml_text(text: str) -> str:
    # XML has no way to write most of the characters that cannot be printed.
    return printable(text, but="\n\t").replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _perl_scalar(value: object) -> str:
    """Perl knows neither true nor false."""
    return str(int(value)) if isinstance(value, bool) else str(value)


def _dumper(value: Any, indent: str) -> str:
    if isinstance(value, Mapping):
        if not value:
            return "{}"
        inner = ",\n".join(f"{indent}  {_quoted(key)} => {_dumper(each, indent + '  ')}" for key, each in value.items())
        return f"{{\n{inner}\n{indent}}}"
    if isinstance(value, list | tuple):
        if not value:
            return "[]"
        inner = ",\n".join(f"{indent}  {_dumper(each, indent + '  ')}" for each in value)
        return f"[\n{inner}\n{indent}]"
    if value is None:
        return "undef"
    if isinstance(value, int):
        return _perl_scalar(value)
    return _quoted(str(value))


def _quoted(text: str) -> str:
    if not text.replace("\n", "").replace("\t", "").isprintable():
        # Perl reads bytes: what cannot be printed is written as those of UTF-8.
        return '"' + "".join(map(_perl_character, text)) + '"'
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _perl_character(character: str) -> str:
    if character in '"$@\\':
        return "\\" + character
    if character.isprintable():
        return character
    return "".join(f"\\x{{{byte:02x}}}" for byte in character.encode())
