"""The grammar of property filters: text to tree, tree to text, tree to JSON and back.

::

    filter     := conjunction (OR conjunction)*
    conjunction:= negation (AND negation)*
    negation   := NOT negation | '(' filter ')' | TRUE | FALSE | predicate
    predicate  := property operator value | value operator property
                | property [NOT] IN '(' value (',' value)* ')'
                | property [NOT] LIKE string
                | property [NOT] BETWEEN value AND value
                | property IS [NOT] NULL
    operator   := = | == | != | <> | < | <= | > | >=
    value      := string | number | TRUE | FALSE
    string     := '...' with '' for a quote
    property   := a name, folded to lower case | "..." taken as it is

Keywords in any case.  Whether a property exists is the server's to say: see
``properties_of``.
"""

from __future__ import annotations

import re
from functools import cache
from math import isfinite
from typing import NamedTuple, NoReturn

from oarpy.errors import SyntaxRefused
from oarpy.model.filters import And, Between, Comparison, Constant, Filter, IsNull, Like, Membership, Not, Or, Value
from oarpy.model.identifiers import is_property_name, property_name
from oarpy.model.wording import excerpt

MAX_LENGTH = 65_536
#: Of parentheses and NOTs; every walk over a tree recurses this deep at most.
MAX_DEPTH = 64
MAX_INTEGER = 2**63 - 1

_KEYWORDS = frozenset(("AND", "OR", "NOT", "IN", "LIKE", "BETWEEN", "IS", "NULL", "TRUE", "FALSE"))
_OPERATORS = {"=": "=", "==": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_MIRRORED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


class _Token(NamedTuple):
    """``kind`` is string, number, name, keyword, operator, punctuation or end."""

    kind: str
    text: str
    position: int


@cache
def _lexicon() -> re.Pattern[str]:
    # Compiled at the first filter: most submissions have none.
    return re.compile(
        r"""\s*(?:
            (?P<string>'(?:[^']|'')*')
          | (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))
          | (?P<name>[^\W\d]\w*|"[^"]*")
          | (?P<operator><=|>=|<>|!=|==|=|<|>)
          | (?P<punctuation>[(),])
          | (?P<end>\Z)
        )""",
        re.VERBOSE | re.ASCII,
    )


def _tokens(text: str) -> list[_Token]:
    tokens = []
    position = 0
    while True:
        match = _lexicon().match(text, position)
        if match is None or match.lastgroup is None:
            start = position + len(text[position:]) - len(text[position:].lstrip())
            if text[start] in "'\"":
                raise SyntaxRefused(f"the filter has a {text[start]} at character {start + 1} that is never closed")
            raise SyntaxRefused(f"the filter cannot be read at character {start + 1}, {excerpt(text[start:], 20)}")
        kind = match.lastgroup
        word = match[kind]
        if kind == "name" and word.upper() in _KEYWORDS:
            kind, word = "keyword", word.upper()
        tokens.append(_Token(kind, word, match.start(match.lastgroup)))
        if kind == "end":
            return tokens
        position = match.end()


class _Parser:
    """Recursive descent; ``depth`` bounds the recursion."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = 0

    def whole(self) -> Filter:
        found = self._filter(0)
        if self._next.kind != "end":
            self._fail("AND, OR or the end")
        return found

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._next
        self._at += 1
        return token

    def _takes(self, text: str) -> bool:
        """Step over ``text`` when it is next and is no quoted thing."""
        if self._next.text == text and self._next.kind in ("keyword", "punctuation"):
            self._at += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._takes(text):
            self._fail(text)

    def _fail(self, expected: str) -> NoReturn:
        token = self._next
        met = "it ends" if token.kind == "end" else f"there is {excerpt(token.text, 20)}"
        raise SyntaxRefused(f"the filter should have {expected} at character {token.position + 1}, where {met}")

    def _filter(self, depth: int) -> Filter:
        operands = [self._conjunction(depth)]
        while self._takes("OR"):
            operands.append(self._conjunction(depth))
        return any_of(*operands)

    def _conjunction(self, depth: int) -> Filter:
        operands = [self._negation(depth)]
        while self._takes("AND"):
            operands.append(self._negation(depth))
        return all_of(*operands)

    def _negation(self, depth: int) -> Filter:
        if depth >= MAX_DEPTH:
            raise SyntaxRefused(f"the filter is nested more than {MAX_DEPTH} deep")
        if self._takes("NOT"):
            return Not(self._negation(depth + 1))
        if self._takes("("):
            found = self._filter(depth + 1)
            self._expect(")")
            return found
        if self._next.kind == "name":
            return self._about(self._property())
        if self._next.kind == "keyword" and self._tokens[self._at + 1].kind != "operator":
            if self._takes("TRUE"):
                return Constant(True)
            if self._takes("FALSE"):
                return Constant(False)
        return self._mirrored()

    def _mirrored(self) -> Filter:
        value = self._value("a property, a value, NOT or (")
        if self._next.kind != "operator":
            self._fail("an operator such as =")
        operator = _MIRRORED[_OPERATORS[self._take().text]]
        return Comparison(self._property(), operator, value)

    def _about(self, name: str) -> Filter:
        if self._next.kind == "operator":
            operator = _OPERATORS[self._take().text]
            if self._next.text == "NULL" and self._next.kind == "keyword":
                self._fail("a value (for NULL write IS NULL)")
            return Comparison(name, operator, self._value("a value"))
        if self._takes("IS"):
            negated = self._takes("NOT")
            self._expect("NULL")
            return IsNull(name, negated)
        negated = self._takes("NOT")
        if self._takes("IN"):
            return Membership(name, self._values(), negated)
        if self._takes("LIKE"):
            if self._next.kind != "string":
                self._fail("a quoted pattern")
            return Like(name, _unquoted(self._take()), negated)
        if self._takes("BETWEEN"):
            low = self._value("a value")
            self._expect("AND")
            return Between(name, low, self._value("a value"), negated)
        self._fail("an operator, IN, LIKE, BETWEEN or IS")

    def _values(self) -> tuple[Value, ...]:
        self._expect("(")
        values = [self._value("a value")]
        while self._takes(","):
            values.append(self._value("a value"))
        self._expect(")")
        return tuple(values)

    def _property(self) -> str:
        if self._next.kind != "name":
            self._fail("a property")
        text = self._take().text
        if not text.startswith('"'):
            return property_name(text)
        if not is_property_name(text[1:-1]):
            raise SyntaxRefused(f"{excerpt(text)} is not the name of a property")
        return text[1:-1]

    def _value(self, expected: str) -> Value:
        if self._takes("TRUE"):
            return True
        if self._takes("FALSE"):
            return False
        if self._next.kind == "string":
            return _unquoted(self._take())
        if self._next.kind == "number":
            return _number(self._take())
        if self._next.kind == "name":
            self._fail(f"{expected} (text stands in single quotes)")
        self._fail(expected)


def _unquoted(token: _Token) -> str:
    return token.text[1:-1].replace("''", "'")


def _number(token: _Token) -> int | float:
    digits = token.text.lstrip("+-")
    if digits.isdigit():
        value = int(token.text) if len(digits) <= 19 else MAX_INTEGER + 1
        if abs(value) <= MAX_INTEGER:
            return value
    elif isfinite(real := float(token.text)):
        return real
    raise SyntaxRefused(f"the filter has a number that is too large at character {token.position + 1}")


def all_of(*filters: Filter) -> Filter:
    """What satisfies every one of ``filters``, of which there is at least one."""
    operands = [part for each in filters for part in (each.operands if isinstance(each, And) else (each,))]
    return operands[0] if len(operands) == 1 else And(tuple(operands))


def any_of(*filters: Filter) -> Filter:
    """What satisfies one of ``filters`` or more, of which there is at least one."""
    operands = [part for each in filters for part in (each.operands if isinstance(each, Or) else (each,))]
    return operands[0] if len(operands) == 1 else Or(tuple(operands))


def parse_filter(text: str) -> Filter:
    """The tree of ``text``.

    Raises:
        SyntaxRefused: with the character at which the grammar is left.
    """
    if len(text) > MAX_LENGTH:
        raise SyntaxRefused(f"the filter has {len(text)} characters; {MAX_LENGTH} are allowed")
    if "\0" in text:
        raise SyntaxRefused("the filter has a zero byte")
    return _Parser(text).whole()


def render_filter(tree: Filter) -> str:
    """A text that ``parse_filter`` makes this tree of."""
    match tree:
        case Comparison(name, operator, value):
            return f"{_rendered_name(name)} {operator} {_rendered_value(value)}"
        case Membership(name, values, negated):
            listed = ", ".join(map(_rendered_value, values))
            return f"{_rendered_name(name)} {'NOT ' if negated else ''}IN ({listed})"
        case Like(name, pattern, negated):
            return f"{_rendered_name(name)} {'NOT ' if negated else ''}LIKE {_rendered_value(pattern)}"
        case Between(name, low, high, negated):
            bounds = f"{_rendered_value(low)} AND {_rendered_value(high)}"
            return f"{_rendered_name(name)} {'NOT ' if negated else ''}BETWEEN {bounds}"
        case IsNull(name, negated):
            return f"{_rendered_name(name)} IS {'NOT ' if negated else ''}NULL"
        case Constant(value):
            return "TRUE" if value else "FALSE"
        case Not(And() | Or() as operand):
            return f"NOT ({render_filter(operand)})"
        case Not(operand):
            return f"NOT {render_filter(operand)}"
        case And(operands):
            parts = (render_filter(part) for part in operands)
            return " AND ".join(f"({p})" if isinstance(t, Or) else p for t, p in zip(operands, parts, strict=True))
        case Or(operands):
            return " OR ".join(render_filter(part) for part in operands)


def _rendered_name(name: str) -> str:
    return f'"{name}"' if name.upper() in _KEYWORDS else name


def _rendered_value(value: Value) -> str:
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value)


def properties_of(tree: Filter) -> frozenset[str]:
    """Every property that ``tree`` names."""
    match tree:
        case And(operands) | Or(operands):
            return frozenset().union(*map(properties_of, operands))
        case Not(operand):
            return properties_of(operand)
        case Constant():
            return frozenset()
        case _:
            return frozenset((tree.property,))


def filter_to_json(tree: Filter) -> object:
    """``tree`` as nested lists, each headed by what it is; TRUE and FALSE are themselves."""
    match tree:
        case Comparison(name, operator, value):
            return [operator, name, value]
        case Membership(name, values, negated):
            return ["in", name, list(values), negated]
        case Like(name, pattern, negated):
            return ["like", name, pattern, negated]
        case Between(name, low, high, negated):
            return ["between", name, low, high, negated]
        case IsNull(name, negated):
            return ["null", name, negated]
        case Not(operand):
            return ["not", filter_to_json(operand)]
        case And(operands):
            return ["and", *map(filter_to_json, operands)]
        case Or(operands):
            return ["or", *map(filter_to_json, operands)]
        case Constant(value):
            return value


def filter_from_json(document: object) -> Filter:
    """The tree that ``filter_to_json`` wrote; nothing else is let through.

    Raises:
        SyntaxRefused: ``document`` is no such thing.
    """
    return _from_json(document, 0)


def _from_json(document: object, depth: int) -> Filter:
    # Each level of parentheses may add an AND or an OR to the depth of the text.
    if depth > 3 * MAX_DEPTH:
        raise SyntaxRefused(f"the filter is nested more than {MAX_DEPTH} deep")
    match document:
        case bool(value):
            return Constant(value)
        case ["=" | "!=" | "<" | "<=" | ">" | ">=" as operator, str(name), value]:
            return Comparison(_checked_name(name), operator, _checked_value(value))
        case ["in", str(name), [_, *_] as values, bool(negated)]:
            return Membership(_checked_name(name), tuple(map(_checked_value, values)), negated)
        case ["like", str(name), str(pattern), bool(negated)]:
            return Like(_checked_name(name), str(_checked_value(pattern)), negated)
        case ["between", str(name), low, high, bool(negated)]:
            return Between(_checked_name(name), _checked_value(low), _checked_value(high), negated)
        case ["null", str(name), bool(negated)]:
            return IsNull(_checked_name(name), negated)
        case ["not", operand]:
            return Not(_from_json(operand, depth + 1))
        case ["and", _, _, *_]:
            return And(tuple(_from_json(part, depth + 1) for part in document[1:]))
        case ["or", _, _, *_]:
            return Or(tuple(_from_json(part, depth + 1) for part in document[1:]))
    raise SyntaxRefused(f"{excerpt(repr(document))} is not a filter in JSON")


def _checked_name(name: str) -> str:
    if not is_property_name(name):
        raise SyntaxRefused(f"{excerpt(name)} is not the name of a property")
    return name


def _checked_value(value: object) -> Value:
    if isinstance(value, str) and "\0" not in value:
        return value
    if isinstance(value, int) and abs(value) <= MAX_INTEGER:
        return value
    if isinstance(value, float) and isfinite(value):
        return value
    raise SyntaxRefused(f"{excerpt(repr(value))} is not a value that a property can have")
