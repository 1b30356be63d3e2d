"""The grammar of property filters."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oarpy.errors import SyntaxRefused
from oarpy.model.filter_grammar import (
    all_of,
    any_of,
    filter_from_json,
    filter_to_json,
    parse_filter,
    properties_of,
    render_filter,
)
from oarpy.model.filters import And, Between, Comparison, Constant, IsNull, Like, Membership, Not, Or

A, B, C = (Comparison(name, "=", 1) for name in "abc")


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("mem > 16", Comparison("mem", ">", 16)),
        ("mem>=16", Comparison("mem", ">=", 16)),
        ("MEM == 16", Comparison("mem", "=", 16)),
        ("mem <> -1.5", Comparison("mem", "!=", -1.5)),
        ("mem != 1e3", Comparison("mem", "!=", 1000.0)),
        ("16 < mem", Comparison("mem", ">", 16)),
        ("'x' = host", Comparison("host", "=", "x")),
        ("host = 'it''s'", Comparison("host", "=", "it's")),
        ("host = ''", Comparison("host", "=", "")),
        ("host = 'a\nb'", Comparison("host", "=", "a\nb")),
        ('"select" = 1', Comparison("select", "=", 1)),
        ('"in" = 1', Comparison("in", "=", 1)),
        ("deploy = true", Comparison("deploy", "=", True)),
        ("FALSE = deploy", Comparison("deploy", "=", False)),
        ("a in (1, 'x', 2.5)", Membership("a", (1, "x", 2.5))),
        ("a NOT IN (1)", Membership("a", (1,), True)),
        ("host like 'c%'", Like("host", "c%")),
        ("host not like 'c_'", Like("host", "c_", True)),
        ("a between 1 and 2", Between("a", 1, 2)),
        ("a not between 1 and 2 and b = 1", And((Between("a", 1, 2, True), B))),
        ("a is null", IsNull("a")),
        ("a IS NOT NULL", IsNull("a", True)),
        ("true", Constant(True)),
        ("NOT FALSE", Not(Constant(False))),
        ("a=1 or b=1 and c=1", Or((A, And((B, C))))),
        ("(a=1 or b=1) and c=1", And((Or((A, B)), C))),
        ("not a=1 and b=1", And((Not(A), B))),
        ("not (a=1 and b=1)", Not(And((A, B)))),
        ("a=1 and (b=1 and c=1)", And((A, B, C))),
        ("((((a=1))))", A),
    ],
)
def test_a_filter_is_read_as_sql_would_read_it(text, tree):
    assert parse_filter(text) == tree


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "at character 1, where it ends"),
        ("   ", "where it ends"),
        ("host", "an operator"),
        ("host =", "a value at character 7, where it ends"),
        ("host = c1", "text stands in single quotes"),
        ('host = "c1"', "text stands in single quotes"),
        ("host = 'c1", "never closed"),
        ('"host = 1', "never closed"),
        ("host ~ 'c'", "cannot be read at character 6"),
        ("mem > 16;", "cannot be read at character 9"),
        ("mem > 16 -- all", "cannot be read"),
        ("mem > 16 /* all */", "cannot be read"),
        ("mem + 1 > 16", "cannot be read"),
        ("1 = 1", "a property"),
        ("a = 1 b = 2", "AND, OR or the end"),
        ("a = 1)", "AND, OR or the end"),
        ("(a = 1", "should have )"),
        ("a = 1 AND", "where it ends"),
        ("AND a = 1", "should have a property"),
        ("a = NULL", "write IS NULL"),
        ("a IS 1", "should have NULL"),
        ("a NOT 1", "an operator, IN, LIKE"),
        ("a IN 1", "should have ("),
        ("a IN ()", "a value"),
        ("a IN (1,)", "a value"),
        ("a IN (b)", "a value"),
        ("a IN (SELECT 1)", "a value"),
        ("a LIKE 3", "a quoted pattern"),
        ("a BETWEEN 1", "should have AND"),
        ("a = 5b", "cannot be read"),
        ("a = 1e999", "too large"),
        ("a = 9223372036854775808", "too large"),
        ("a = " + "9" * 5000, "too large"),
        ("a = '\0'", "zero byte"),
        ("pg_sleep(10) = 1", "an operator"),
        ('"a b" = 1', "is not the name of a property"),
        ("é = 1", "cannot be read"),
        ("x" * 64 + " = 1", "is not a name of a property"),
        ("(" * 65 + "a=1" + ")" * 65, "nested more than 64 deep"),
        ("NOT " * 65 + "a=1", "nested more than 64 deep"),
        ("a=1 OR " * 20_000, "65536 are allowed"),
    ],
)
def test_what_is_no_filter_is_refused_with_a_sentence(text, sentence):
    with pytest.raises(SyntaxRefused) as refusal:
        parse_filter(text)

    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_long_chain_is_no_deep_nesting():
    tree = parse_filter(" OR ".join(["a = 1"] * 5000))

    assert tree == Or((A,) * 5000)


def test_conditions_join_flat():
    assert all_of(A, And((B, C))) == And((A, B, C))
    assert any_of(Or((A, B)), C) == Or((A, B, C))
    assert all_of(A) == A


def test_every_property_of_a_filter_is_found():
    tree = parse_filter("a = 1 AND (b IN (1) OR NOT c LIKE 'x') AND d BETWEEN 1 AND 2 AND e IS NULL AND TRUE")

    assert properties_of(tree) == {"a", "b", "c", "d", "e"}


names = st.one_of(st.from_regex(r"[a-z_][a-z0-9_]{0,6}", fullmatch=True), st.sampled_from(["in", "null", "and"]))
values = st.one_of(
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8),
)
predicates = st.one_of(
    st.builds(Comparison, names, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), values),
    st.builds(Membership, names, st.lists(values, min_size=1, max_size=3).map(tuple), st.booleans()),
    st.builds(Like, names, st.text("a%_'", max_size=4), st.booleans()),
    st.builds(Between, names, values, values, st.booleans()),
    st.builds(IsNull, names, st.booleans()),
    st.builds(Constant, st.booleans()),
)
trees = st.recursive(
    predicates,
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: all_of(*parts)),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: any_of(*parts)),
    ),
    max_leaves=8,
)


@given(trees)
def test_what_is_rendered_is_read_back_as_the_same(tree):
    assert parse_filter(render_filter(tree)) == tree


@given(trees)
def test_json_keeps_a_filter_whole(tree):
    assert filter_from_json(json.loads(json.dumps(filter_to_json(tree)))) == tree


@pytest.mark.parametrize(
    "document",
    [
        None,
        1,
        "a = 1",
        [],
        ["="],
        ["=", "a"],
        ["=", "a", None],
        ["=", "a", [1]],
        ["=", "a b", 1],
        ["=", 'a" OR 1=1', 1],
        ["=", "a", float("inf")],
        ["=", "a", 2**63],
        ["=", "a", "\0"],
        ["~", "a", "b"],
        ["in", "a", [], False],
        ["in", "a", [1], "no"],
        ["like", "a", 1, False],
        ["and", ["=", "a", 1]],
        ["not"],
        {"=": ["a", 1]},
    ],
)
def test_json_that_no_client_writes_is_refused(document):
    with pytest.raises(SyntaxRefused):
        filter_from_json(document)


def test_json_nested_without_end_is_refused():
    document: object = ["=", "a", 1]
    for _ in range(500):
        document = ["not", document]

    with pytest.raises(SyntaxRefused, match="nested"):
        filter_from_json(document)


@given(st.text(alphabet="ab='\"() ANDORNTIL,<>!1.-\n", max_size=40))
def test_any_text_is_a_filter_or_refused(text):
    try:
        tree = parse_filter(text)
    except SyntaxRefused:
        return

    assert parse_filter(render_filter(tree)) == tree
