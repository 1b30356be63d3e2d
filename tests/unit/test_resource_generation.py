"""Resources that are generated from an expression."""

import pytest

from oarpy.errors import SyntaxRefused
from oarpy.model.resource_generation import generated, parse_generation, size


def rows(text, first=None):
    return list(generated(parse_generation(text), first))


def test_what_is_counted_is_numbered_across_all_hosts():
    assert [(row["host"], row["cpu"], row["core"]) for row in rows("/host=n{1-2}/cpu={2}/core={1}")] == [
        ("n1", "0", "0"), ("n1", "1", "1"), ("n2", "2", "2"), ("n2", "3", "3"),
    ]  # fmt: skip


def test_numbers_begin_where_they_are_told_to():
    assert [row["core"] for row in rows("/host=n{1-2}/core={2}", {"core": 40})] == ["40", "41", "42", "43"]


@pytest.mark.parametrize(
    ("pattern", "hosts"),
    [
        ("n{3}", ["n1", "n2", "n3"]),
        ("n{08-11}.grid", ["n08.grid", "n09.grid", "n10.grid", "n11.grid"]),
        ("n{1,3,5-6}", ["n1", "n3", "n5", "n6"]),
        ("{2}", ["1", "2"]),
        ("alone", ["alone"]),
    ],
)
def test_names_are_written_out(pattern, hosts):
    assert [row["host"] for row in rows(f"/host={pattern}")] == hosts


def test_names_below_a_host_are_the_same_on_each():
    assert [(row["host"], row["slot"]) for row in rows("/nodes=n{2}/slot=s{2}")] == [
        ("n1", "s1"), ("n1", "s2"), ("n2", "s1"), ("n2", "s2"),
    ]  # fmt: skip


def test_many_are_counted_before_they_are_made():
    assert size(parse_generation("/host=n{1000}/cpu={2}/core={64}")) == 128_000


@pytest.mark.parametrize(
    "text",
    [
        *("", "host=n{2}", "/", "/cpu={2}", "/host", "/host=", "/host=n{", "/host=n}", "/host=n{}", "/host=n{a}"),
        *("/host=n{1-}", "/host=n{3-1}", "/host=n{1,1}", "/host=n{1}{2}", "/host=n{1}/core={0}", "/host=n{1}/core"),
        *("/host=n{1}/host=m", "/host=n{1}/core=1/core=2", "/host=n{1}/a b={2}", "/host=n{99999999999}"),
        *("/host=n{999999999}", "/host=n{1000}/core={1000}", "/host=n{0-999999999}"),
    ],
)
def test_what_follows_no_grammar_is_refused_in_words(text):
    with pytest.raises(SyntaxRefused) as refusal:
        parse_generation(text)

    assert "\n" not in str(refusal.value)
