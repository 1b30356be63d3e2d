"""OAR 3's JSON of quotas."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from oarpy.model.quota_file import PeriodRow, QuotaFile, RuleRow, read_quotas, written_quotas

#: The temporal example of OAR 3's documentation.
TEMPORAL = {
    "periodical": [
        ["08:00-19:00 mon-fri * *", "quotas_workday", "workdays"],
        ["19:00-00:00 mon-thu * *", "quotas_night", "nights of workdays"],
        ["00:00-08:00 tue-fri * *", "quotas_night", "nights of workdays"],
        ["19:00-00:00 fri * *", "quotas_weekend", "weekend"],
        ["* sat-sun * *", "quotas_weekend", "weekend"],
        ["00:00-08:00 mon * *", "quotas_weekend", "weekend"],
    ],
    "oneshot": [["2020-07-23 19:30", "2020-08-29 8:30", "quotas_holiday", "summer holiday"]],
    "quotas_workday": {"*,*,*,john": [100, -1, -1], "*,projA,*,*": [200, -1, -1]},
    "quotas_night": {"*,*,*,john": [100, "ALL", "0.5*ALL"], "*,projA,*,*": ["34", "ALL", "2*ALL"]},
    "quotas_weekend": {"*,*,*,john": [100, -1, 0.5], "*,projA,*,*": [200, -1, 10.0]},
    "quotas_holiday": {},
}
PARIS = ZoneInfo("Europe/Paris")


def read(document: object) -> QuotaFile:
    return read_quotas(json.dumps(document), PARIS)


def test_the_rules_of_the_simple_example_are_the_default_set() -> None:
    found = read({"quotas": {"*,*,*,*": [120, -1, -1], "*,*,deploy,john": [150, 4, -1]}, "job_types": ["deploy"]})

    assert found.mistakes == []
    assert found.rules == [
        RuleRow("default", "*", "*", "*", "*", "120", None, None),
        RuleRow("default", "*", "*", "deploy", "john", "150", "4", None),
    ]


def test_the_temporal_example_is_read_whole() -> None:
    found = read(TEMPORAL)

    assert found.mistakes == []
    assert found.rules[2:5] == [
        RuleRow("quotas_night", "*", "*", "*", "john", "100", "ALL", "0.5*ALL"),
        RuleRow("quotas_night", "*", "projA", "*", "*", "34", "ALL", "2*ALL"),
        RuleRow("quotas_weekend", "*", "*", "*", "john", "100", None, "0.5"),
    ]
    assert found.periods[3] == PeriodRow("quotas_weekend", "19:00-00:00", "fri", comment="weekend")
    begins_at, ends_at = datetime(2020, 7, 23, 17, 30, tzinfo=UTC), datetime(2020, 8, 29, 6, 30, tzinfo=UTC)
    assert found.periods[6] == PeriodRow(
        "quotas_holiday", begins_at=begins_at, ends_at=ends_at, comment="summer holiday"
    )


def test_what_fills_the_gaps_comes_last() -> None:
    found = read(
        {
            "periodical": [["default", "low"], ["* sat * *", "high"]],
            "low": {"*,*,*,/": [1, -1, -1]},
            "high": {"*,*,*,/": [2, -1, -1]},
        }
    )

    assert found.mistakes == []
    assert [(period.ruleset, period.weekdays) for period in found.periods] == [("high", "sat"), ("low", "*")]


def test_what_is_written_is_read_again_as_the_same() -> None:
    found = read(TEMPORAL | {"quotas": {"default,/,*,/": [5, "ALL", 7]}})

    again = read(written_quotas(found.rules, found.periods, PARIS))

    assert again.mistakes == []
    assert sorted(again.rules) == sorted(found.rules)
    assert again.periods == found.periods


@pytest.mark.parametrize(
    ("document", "mistake"),
    [
        ([], "the file: it must be one JSON object"),
        ({"quotas": 3}, "quotas: a set of rules must be a JSON object"),
        ({"quotas": {"*,*,*": [1, 1, 1]}}, 'quotas["*,*,*"]: a rule is called queue,project,type,user'),
        ({"quotas": {"*,,*,*": [1, 1, 1]}}, 'quotas["*,,*,*"]: a part of the name is empty'),
        ({"quotas": {"*,*,/,*": [1, 1, 1]}}, 'quotas["*,*,/,*"]: / is not for types; * is all of them'),
        (
            {"quotas": {"*,*,*,*": [1, 1]}},
            'quotas["*,*,*,*"]: its limits must be [resources, running jobs, resource-hours]',
        ),
        (
            {"quotas": {"*,*,*,*": [1, "half", 1]}},
            "quotas[\"*,*,*,*\"][1]: 'half' is no number of running jobs; write it as 10, ALL or 0.5*ALL",
        ),
        (
            {"quotas": {"*,*,*,*": [1.5, 1, 1]}},
            "quotas[\"*,*,*,*\"][0]: '1.5' is no number of resources; write it as 10, ALL or 0.5*ALL",
        ),
        ({"quotas": {"*,*,*,*": [True, 1, 1]}}, "quotas[\"*,*,*,*\"][0]: 'True' is no number of resources"),
        (
            {"quotas": {"*,*,*,*": [-2, 1, 1]}},
            "quotas[\"*,*,*,*\"][0]: '-2' is no number of resources; write it as 10, ALL or 0.5*ALL",
        ),
        (
            {"quotas": {"*,*,deploy,*": [1, 1, 1]}, "job_types": ["noop"]},
            "quotas[\"*,*,deploy,*\"]: its type 'deploy' is not among job_types, so it would bind nobody",
        ),
        ({"job_types": "noop"}, "job_types: it must be a list of the names of job types"),
        ({"quotas": {}, "default": {}}, "default: the default set is called quotas already"),
        ({"periodical": {}}, "periodical: it must be a list"),
        (
            {"periodical": [["* * * *", "x", ""]]},
            "periodical[0]: there is no set of rules called 'x' in the file",
        ),
        (
            {"x": {}, "periodical": [["* mon *", "x"]]},
            "periodical[0]: '* mon *' is not hours, weekdays, days of the month and months",
        ),
        ({"x": {}, "periodical": [["* mon 32 *", "x"]]}, "periodical[0]: '32' is no day of the month"),
        (
            {"x": {}, "periodical": ["* mon * *"]},
            'periodical[0]: it must be ["08:00-19:00 mon-fri * *", set, comment]',
        ),
        (
            {"x": {}, "oneshot": [["2026-02-30 00:00", "2026-03-01 00:00", "x"]]},
            "oneshot[0]: '2026-02-30 00:00' is no date; write it as 2026-07-01 00:00",
        ),
        (
            {"x": {}, "oneshot": [["2026-03-02 00:00", "2026-03-01 00:00", "x"]]},
            "oneshot[0]: it ends at 2026-03-01 00:00, which is not after 2026-03-02 00:00",
        ),
        (
            {"x": {}, "periodical": [["* mon * *", "x", "nul\0"]]},
            "periodical[0]: the comment 'nul\\x00' has characters that cannot be printed",
        ),
        (
            {"quotas": {"*,*,*,\0": [1, 1, 1]}},
            "quotas[\"*,*,*,\\u0000\"]: a part of the name '\\x00' has characters that cannot be printed",
        ),
        (
            {"quotas": {"u" * 5000: [1, 1, 1]}},
            f'quotas["{"u" * 100}..."]: a rule is called queue,project,type,user',
        ),
        ({"\0": 1}, '"\\u0000": a set of rules must be a JSON object'),
    ],
)
def test_a_mistake_is_told_with_its_place(document: object, mistake: str) -> None:
    assert read(document).mistakes == [mistake]


def test_all_mistakes_are_told_at_once() -> None:
    found = read({"quotas": {"a": [], "*,*,*,*": ["x", "y", "z"]}, "oneshot": [1, 2]})

    assert len(found.mistakes) == 6


def test_what_stands_there_twice_is_a_mistake() -> None:
    found = read_quotas('{"quotas": {"*,*,*,a": [1,1,1], "*,*,*,a": [2,2,2]}}', PARIS)

    assert found.mistakes == ["quotas: '*,*,*,a' stands there twice"]


@pytest.mark.parametrize("text", ["", "{", '{"quotas": {"*,*,*,*": [1,1,1],}}', "[" * 100_000, "1" * 5000])
def test_what_is_no_json_is_said_to_be_none(text: str) -> None:
    (mistake,) = read_quotas(text, PARIS).mistakes

    assert mistake.startswith("it is not JSON: ")
    assert len(mistake) < 200


@pytest.mark.parametrize("limit", ["1e400", "-1e400", "NaN", "1" + "0" * 400, '"' + "9" * 5000 + '"'])
def test_numbers_beyond_all_bounds_are_mistakes(limit: str) -> None:
    (mistake,) = read_quotas(f'{{"quotas": {{"*,*,*,*": [{limit}, 1, 1]}}}}', PARIS).mistakes

    assert " is no number of resources" in mistake
