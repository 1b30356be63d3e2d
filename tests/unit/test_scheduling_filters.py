"""Filters over properties: three-valued, tolerant of how values are spelled."""

from __future__ import annotations

import pytest

from oarpy.model.filters import And, Between, Comparison, Constant, Filter, IsNull, Like, Membership, Not, Or
from oarpy.scheduling.matching import PropertyUnknown, evaluate

PROPERTIES = {
    "host": ["c1", "c2", "d1", None],
    "mem": [16, 32, 64, None],
    "size": ["8", "16", "big", None],
    "gpu": [True, False, None, True],
    "load": [0.5, 1.0, 2.5, None],
}


def matched(condition: Filter) -> list[int]:
    true = evaluate(condition, PROPERTIES, 0b1111).true
    return [i for i in range(4) if true >> i & 1]


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        (Comparison("mem", "=", 32), [1]),
        (Comparison("mem", "=", "32"), [1]),
        (Comparison("mem", "!=", 32), [0, 2]),
        (Comparison("mem", ">", 16), [1, 2]),
        (Comparison("mem", "<=", 32.0), [0, 1]),
        (Comparison("size", ">", 9), [1, 2]),
        (Comparison("host", "<", "c2"), [0]),
        (Comparison("gpu", "=", "YES"), [0, 3]),
        (Comparison("gpu", "=", "true"), [0, 3]),
        (Comparison("gpu", "!=", "YES"), [1]),
        (Comparison("gpu", "=", 0), [1]),
        (Comparison("load", ">=", 1), [1, 2]),
        (Not(Comparison("mem", "=", 32)), [0, 2]),
        (Membership("host", ("c1", "d1")), [0, 2]),
        (Membership("host", ("c1", "d1"), negated=True), [1]),
        (Like("host", "c%"), [0, 1]),
        (Like("host", "_1"), [0, 2]),
        (Like("host", "c%", negated=True), [2]),
        (Like("gpu", "Y%"), [0, 3]),
        (Between("mem", 16, 32), [0, 1]),
        (Between("mem", 16, 32, negated=True), [2]),
        (IsNull("mem"), [3]),
        (IsNull("mem", negated=True), [0, 1, 2]),
        (Not(IsNull("gpu")), [0, 1, 3]),
        (And((Comparison("mem", ">", 8), Comparison("gpu", "=", "NO"))), [1]),
        (Or((Comparison("mem", "=", 64), Comparison("gpu", "=", "YES"))), [0, 2, 3]),
        (Not(And((Comparison("mem", "=", 16), Comparison("gpu", "=", "YES")))), [1, 2]),
        (Not(Or((Comparison("mem", "=", 64), Comparison("gpu", "=", "NO")))), [0]),
        (Constant(True), [0, 1, 2, 3]),
        (Not(Constant(True)), []),
    ],
)
def test_a_filter_matches_where_it_is_true(condition: Filter, rows: list[int]) -> None:
    assert matched(condition) == rows


def test_the_signs_of_regular_expressions_mean_themselves_in_a_pattern() -> None:
    properties = {"host": ["a.c", "abc", "a.c\nd"]}

    assert evaluate(Like("host", "a.c"), properties, 0b111).true == 0b001
    assert evaluate(Like("host", "a.%"), properties, 0b111).true == 0b101


def test_a_property_that_nobody_has_is_named() -> None:
    with pytest.raises(PropertyUnknown, match="gpus"):
        evaluate(Comparison("gpus", "=", 1), PROPERTIES, 0b1111)
