"""The grammar of ``oarsub -l``."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oarpy.errors import SyntaxRefused
from oarpy.model.filter_grammar import parse_filter
from oarpy.model.request import Alternative, Beside, Count, Group, Level, ResourceRequest
from oarpy.model.resource_grammar import (
    Wish,
    complete,
    parse_wish,
    parse_wishes,
    properties_of,
    render_request,
    render_wish,
    request_from_json,
    request_to_json,
    wishes_from_json,
    wishes_to_json,
)


def group(*levels: tuple[str, int], where: str | None = None) -> Group:
    return Group(tuple(Level(*level) for level in levels), parse_filter(where) if where else None)


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("core=4", Wish((group(("core", 4)),))),
        ("/core=4", Wish((group(("core", 4)),))),
        ("/nodes=2/core=4,walltime=1:30", Wish((group(("nodes", 2), ("core", 4)),), 5400)),
        ("nodes=2/core=4,walltime=0:5:0", Wish((group(("nodes", 2), ("core", 4)),), 300)),
        ("walltime=2", Wish((), 7200)),
        ("host=ALL", Wish((group(("host", Count.ALL)),))),
        ("host=best", Wish((group(("host", Count.BEST)),))),
        ("host=BESTHALF", Wish((group(("host", Count.BESTHALF)),))),
        ("host=HALF_BEST", Wish((group(("host", Count.BESTHALF)),))),
        ("HOST=1", Wish((group(("host", 1)),))),
        (" / host = 1 / core = 2 , walltime = 1 ", Wish((group(("host", 1), ("core", 2)),), 3600)),
        (
            "/nodes=1+{type='licence'}/lic=2",
            Wish((group(("nodes", 1)), group(("lic", 2), where="type = 'licence'"))),
        ),
        ("{mem > 3}/switch=1/{cpu = 2}host=2", Wish((group(("switch", 1), ("host", 2), where="mem > 3 AND cpu = 2"),))),
        (
            "/{mem > 3}/switch=1/{cpu = 2}/host=2",
            Wish((group(("switch", 1), ("host", 2), where="mem > 3 AND cpu = 2"),)),
        ),
        ("{name = '}+/{'}host=1", Wish((group(("host", 1), where="name = '}+/{'"),))),
        (
            "/host=2[gpu=1, mem_mib=8192]/core=4",
            Wish((Group((Level("host", 2, (Beside("gpu", 1), Beside("mem_mib", 8192))), Level("core", 4))),)),
        ),
        ("host=BEST[gpu=1]", Wish((Group((Level("host", Count.BEST, (Beside("gpu", 1),)),)),))),
        ("{a=1}{b=2}host=1", Wish((group(("host", 1), where="a=1 AND b=2"),))),
    ],
)
def test_a_request_is_read_as_oar_reads_it(text, wish):
    assert parse_wish(text) == wish


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "at character 1: a property was expected"),
        ("/", "at character 2: a property was expected"),
        ("nodes", "'=' was expected"),
        ("nodes=", "a count was expected"),
        ("nodes=0", "a count of 0 asks for nothing"),
        ("nodes=000", "a count of 0 asks for nothing"),
        ("nodes=-1", "a count was expected"),
        ("nodes=1.5", "a count was expected"),
        ("nodes=SOME", "a count was expected"),
        ("nodes=1000001", "at most 1000000"),
        ("nodes=" + "9" * 5000, "at most 1000000"),
        ("nodes=٣", "a count was expected"),
        ("nodes=4:ppn=2", "or the end was expected"),
        ("nodes=1,core=2", "only walltime="),
        ("nodes=1 core=2", "or the end was expected"),
        ("nodes=1,", "only walltime="),
        ("nodes=1+", "a property was expected"),
        ("nodes=1/nodes=2", "names nodes twice"),
        ("host=ALL/core=BEST", "only one level"),
        ("host=1[", "a type of resources was expected"),
        ("host=1[]", "a type of resources was expected"),
        ("host=1[gpu]", "'=' was expected after"),
        ("host=1[gpu=0]", "an amount of 0 asks for nothing"),
        ("host=1[gpu=ALL]", "an amount was expected: 1, 2, …"),
        ("host=1[gpu=1", "',' or ']' was expected"),
        ("host=1[gpu=1,gpu=2]", "asks for a type in brackets twice"),
        ("switch=1[gpu=1]/host=1[gpu=1]", "asks for a type in brackets twice"),
        ("nodes=1,walltime=", "is not a duration"),
        ("nodes=1,walltime=abc", "is not a duration"),
        ("nodes=1,walltime=0", "no time at all"),
        ("nodes=1,walltime=-1", "is not a duration"),
        ("nodes=1,walltime=1:2:3:4", "is not a duration"),
        ("nodes=1,walltime=999999999", "longer than"),
        ("nodes=1,walltime=1,walltime=2", "or the end was expected"),
        ("walltime=2,core=1", "the end was expected"),
        ("{mem > 3", "never closed"),
        ("{}/host=1", "in {''}"),
        ("{mem >}/host=1", "should have a value"),
        ("{mem > 3}", "a property was expected"),
        ("sélection=1", "is not a name of a property"),
        ("1core=1", "is not a name of a property"),
        ("a-b=1", "is not a name of a property"),
        ("x" * 64 + "=1", "is not a name of a property"),
        ("; rm -rf /", "a property was expected"),
        ("host=1\n;", "the end was expected"),
        ("+".join(["core=1"] * 65), "64 are allowed"),
        ("/".join(f"p{n}=1" for n in range(17)), "16 are allowed"),
        ("a" * 70_000, "65536 are allowed"),
    ],
)
def test_what_is_no_request_is_refused_with_a_sentence(text, sentence):
    with pytest.raises(SyntaxRefused) as refusal:
        parse_wish(text)

    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert refusal.value.exit_status == 18


def test_more_alternatives_than_allowed_are_refused():
    with pytest.raises(SyntaxRefused, match="64 are allowed"):
        parse_wishes(["core=1"] * 65)


def test_no_request_at_all_is_one_empty_wish():
    assert parse_wishes([]) == (Wish(),)


def test_defaults_aliases_and_the_properties_of_the_job_complete_a_wish():
    wishes = parse_wishes(["nodes=2", "{a = 1}core=1,walltime=1", "walltime=3"])

    request = complete(
        wishes,
        groups=(group(("resource_id", 1)),),
        walltime_s=7200,
        aliases={"nodes": "network_address"},
        everywhere=parse_filter("b = 2"),
    )

    assert request == ResourceRequest(
        (
            Alternative((group(("network_address", 2), where="b = 2"),), 7200),
            Alternative((group(("core", 1), where="a = 1 AND b = 2"),), 3600),
            Alternative((group(("resource_id", 1), where="b = 2"),), 10800),
        )
    )


def test_a_request_is_shown_as_the_options_that_would_ask_for_it():
    request = ResourceRequest(
        (
            Alternative((group(("host", Count.BEST), ("core", 4), where="a = 'b'"), group(("lic", 1))), 3661),
            Alternative((group(("core", 1)),), 60),
        )
    )

    shown = render_request(request)

    assert shown == """-l "{a = 'b'}/host=BEST/core=4+/lic=1,walltime=1:1:1" -l "/core=1,walltime=0:1:0\""""


def test_every_property_of_a_request_is_found():
    request = ResourceRequest((Alternative((group(("host", 1), where="mem > 1 OR NOT gpu IN (1)"),), 60),))

    assert properties_of(request) == {"host", "mem", "gpu"}


names = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True).filter(lambda name: name != "walltime")
besides = st.lists(st.builds(Beside, names, st.integers(1, 1_000_000_000)), max_size=1).map(tuple)
levels = st.builds(Level, names, st.integers(1, 1_000_000), besides)
filters = st.sampled_from([None, parse_filter("a = '}''{' AND b > 1"), parse_filter("x IN (1, 'y') OR NOT z IS NULL")])
groups = st.builds(
    Group,
    st.lists(
        levels,
        min_size=1,
        max_size=4,
        unique_by=(
            lambda level: level.property,
            lambda level: tuple(one.type for one in level.beside) or level.property,
        ),
    ).map(tuple),
    filters,
)
alternatives = st.builds(
    Alternative, st.lists(groups, min_size=1, max_size=3).map(tuple), st.integers(1, 10 * 365 * 86_400)
)


@given(alternatives)
def test_what_is_rendered_is_read_back_as_the_same(alternative):
    assert parse_wish(render_wish(alternative)) == Wish(alternative.groups, alternative.walltime_s)


@given(st.lists(alternatives, min_size=1, max_size=3).map(tuple).map(ResourceRequest))
def test_json_keeps_a_request_whole(request):
    assert request_from_json(json.loads(json.dumps(request_to_json(request)))) == request


def test_json_keeps_what_a_wish_leaves_out():
    wishes = parse_wishes(["walltime=2", "core=1"])

    assert wishes_from_json(json.loads(json.dumps(wishes_to_json(wishes)))) == wishes


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        [[]],
        [[[], 0]],
        [[[], -1]],
        [[[], 10**12]],
        [[[[[], None]], 60]],
        [[[[[["core", 0]], None]], 60]],
        [[[[[["core", -4]], None]], 60]],
        [[[[[["core", 1.5]], None]], 60]],
        [[[[[["core", "1"]], None]], 60]],
        [[[[[["co re", 1]], None]], 60]],
        [[[[[["core; DROP", 1]], None]], 60]],
        [[[[[["core", 1]], "x"]], 60]],
        [[[[[["core", 1]], ["or", ["=", "a", 1]]]], 60]],
        [[[], None]] * 65,
    ],
)
def test_json_that_no_client_writes_is_refused(document):
    with pytest.raises(SyntaxRefused):
        wishes_from_json(document)


@given(st.text(alphabet="{}/+=,'\"walltimecoreALL019: ", max_size=40))
def test_any_text_is_a_request_or_refused(text):
    try:
        wish = parse_wish(text)
    except SyntaxRefused:
        return

    assert parse_wish(render_wish(wish)) == wish
