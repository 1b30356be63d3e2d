"""Whether what a request says of properties can be meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from oarpy.errors import RequestRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.filters import And, Between, Comparison, Constant, Filter, IsNull, Like, Membership, Not, Or, Value
from oarpy.model.request import ResourceRequest
from oarpy.model.wording import did_you_mean, excerpt

_TRUTH = frozenset({"yes", "no", "true", "false", "t", "f", "1", "0"})


def check_properties(request: ResourceRequest, kinds: Mapping[str, str]) -> None:
    """Let ``request`` pass when every property in it is one of ``kinds`` and is compared to values of its kind.

    Numbers and truth may be written as text, which OAR's users do.

    Raises:
        RequestRefused: naming the property.
    """
    for group in (group for alternative in request.alternatives for group in alternative.groups):
        for level in group.levels:
            _check_known(level.property, kinds)
        if group.filter is not None:
            for name, values in _comparisons(group.filter):
                _check_known(name, kinds)
                for value in values:
                    _check_comparable(name, kinds[name], value)


def _check_known(name: str, kinds: Mapping[str, str]) -> None:
    if name not in kinds:
        raise _denied(f"resources have no property {name}{did_you_mean(name, kinds)}")


def _comparisons(tree: Filter) -> Iterator[tuple[str, tuple[Value, ...]]]:
    """Every property that ``tree`` names, with what it must have the kind of."""
    match tree:
        case And(operands) | Or(operands):
            for operand in operands:
                yield from _comparisons(operand)
        case Not(operand):
            yield from _comparisons(operand)
        case Comparison(name, _, value):
            yield name, (value,)
        case Membership(name, values):
            yield name, values
        case Between(name, low, high):
            yield name, (low, high)
        case Like(name) | IsNull(name):
            yield name, ()
        case Constant():
            return


def _check_comparable(name: str, kind: str, value: Value) -> None:
    if kind in ("integer", "real") and isinstance(value, str):
        try:
            float(value)
        except ValueError:
            raise _denied(f"the property {name} is a number and never {excerpt(value)}") from None
    if kind == "boolean" and str(value).lower() not in _TRUTH:
        raise _denied(f"the property {name} is YES or NO and never {excerpt(str(value))}")


def _denied(sentence: str) -> RequestRefused:
    return RequestRefused(sentence, exit_status=ExitStatus.DENIED)
