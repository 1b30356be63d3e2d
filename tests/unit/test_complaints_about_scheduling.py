"""What reading OAR's scheduler showed: not here.

Each test is named after the module of OAR 3 in which the defect was seen; its doc string
says what the defect was.
"""

from __future__ import annotations

import tomllib
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from oarpy import settings
from oarpy.errors import OarError
from oarpy.model.quota_calendar import Period, instant, parse_period, unrolled
from oarpy.model.quotas import Measure, Rule, parse_amount
from oarpy.model.states import Ordering
from oarpy.scheduling.decide import decide
from oarpy.scheduling.karma import Karmas
from oarpy.scheduling.multifactor import Priorities
from oarpy.scheduling.plan import Predict, Start
from oarpy.scheduling.platform import Platform
from oarpy.scheduling.snapshot import Queue, QuotaRules, Snapshot, WaitingJob
from oarpy.scheduling.usage import Account, Consumption, Factors, Shares, Usage
from tests.unit.clusters import NOW_S, TO_THE_SECOND, held, hosts, job, snapshot

DAY_S = 86_400
ZONE = ZoneInfo("Europe/Paris")


def a_job(number: int, request: str = "core=1", **others: Any) -> WaitingJob:
    return job(number, request, 100, **others)


def with_quota(plain: Snapshot, key: str, jobs: str) -> Snapshot:
    queue, project, job_type, user = key.split(",")
    rule = Rule(queue, project, job_type, user, {Measure.JOBS: parse_amount(jobs, Measure.JOBS)})
    return replace(plain, quotas=QuotaRules({"default": (rule,)}))


def starts(case: Snapshot) -> dict[int, int]:
    return {
        int(one.job_id): NOW_S if isinstance(one, Start) else one.start_s
        for one in decide(case).decisions
        if isinstance(one, Start | Predict)
    }


def sets(begin: str, end: str, *periods: Period) -> list[tuple[str, str]]:
    """From which local day on which set of quotas holds."""
    first, last = (instant(datetime.fromisoformat(text), ZONE) for text in (begin, end))
    return [(str(datetime.fromtimestamp(at, ZONE).date()), name) for at, name in unrolled(periods, first, last, ZONE)]


def test_kao_meta_sched_what_a_pass_may_take_is_bounded() -> None:
    """SCHEDULER_TIMEOUT was read and not enforced: a pass looked for a place for every job, however many waited."""
    jobs = [*(a_job(number, "core=2") for number in range(1, 30)), a_job(30)]
    hurried = replace(TO_THE_SECOND, plan_first=2, starts_only=True)

    found = starts(snapshot(hosts(1, 3), *jobs, limits=hurried))

    assert found == {1: NOW_S, 2: NOW_S + 100, 30: NOW_S}


def test_kao_quotas_a_check_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """A line for debugging was printed at each check."""
    starts(with_quota(snapshot(hosts(1, 4), a_job(1), a_job(2)), "*,*,*,/", "1"))

    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("types", [("deploy", "night"), ("night", "deploy"), ("a=b", "deploy=standby", "night")])
def test_kao_quotas_every_type_of_a_job_counts(types: tuple[str, ...]) -> None:
    """Only the first type of a job was looked at."""
    crowd = snapshot(hosts(1, 4), a_job(1, types=types), a_job(2, types=types), a_job(3))

    assert starts(with_quota(crowd, "*,*,night,*", "1")) == {1: NOW_S, 2: NOW_S + 100, 3: NOW_S}
    assert starts(with_quota(crowd, "*,*,deploy,*", "1")) == {1: NOW_S, 2: NOW_S + 100, 3: NOW_S}


def test_kao_quotas_the_days_of_a_period_count() -> None:
    """The field of the days of the month was read and not used."""
    first_week = parse_period("week", "*", days="1-7")

    assert sets("2026-07-01", "2026-07-31", first_week) == [("2026-07-01", "week"), ("2026-07-08", "default")]


def test_kao_quotas_the_months_of_a_period_count() -> None:
    """The field of the months was read and not used."""
    summer = parse_period("summer", "*", months="jul-aug")

    found = sets("2026-06-01", "2026-10-01", summer)

    assert found == [("2026-06-01", "default"), ("2026-07-01", "summer"), ("2026-09-01", "default")]


def test_kao_quotas_in_the_gaps_between_periods_the_default_rules_hold() -> None:
    """Which rules held between two periods was nowhere said."""
    found = sets("2026-07-03", "2026-07-07", parse_period("a", "*", "fri"), parse_period("b", "*", "sun"))

    assert [name for _, name in found] == ["a", "default", "b", "default"]


def test_kao_karma_a_target_that_is_no_number_is_refused_when_the_server_starts() -> None:
    """A target is a text in the configuration, and dividing it by 100 was a TypeError in each pass."""
    assert settings.parse(tomllib.loads("[fairshare]\nuser_targets = {alice = 50}")).fairshare.user_targets == {
        "alice": 50
    }

    with pytest.raises(OarError, match="user_targets"):
        settings.parse(tomllib.loads('[fairshare]\nuser_targets = {alice = "50"}'))


def test_kao_karma_default_is_the_target_of_all_who_have_none() -> None:
    """The entry ``default`` was one for a user of that name."""
    usage = Usage(NOW_S, {Account("default", "p", name): Consumption(100, 100) for name in ("alice", "bob")})

    karmas = Karmas(usage, {"default"}, Shares(user_targets={"alice": 50, "default": 10}))

    assert karmas.of("p", "alice") == 0.0
    assert karmas.of("p", "bob") == round(2 * 0.4 + 0.4, 3)


def test_kao_karma_the_limit_of_jobs_per_user_is_kept() -> None:
    """The setting was read and not used."""
    jobs = [a_job(number, user="alice") for number in range(1, 9)]

    limited = snapshot(hosts(1, 1), *jobs, limits=replace(TO_THE_SECOND, jobs_per_user=2))

    assert sorted(starts(limited)) == [1, 2, 3]


@pytest.mark.parametrize(("waited_s", "factor"), [(0, 0.0), (DAY_S, 0.5), (2 * DAY_S, 1.0), (20 * DAY_S, 1.0)])
def test_kao_multifactor_priority_the_age_grows_to_its_limit_and_no_further(
    waited_s: int, factor: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """min and max were swapped, so that an old job had no bound and a young one the whole; and it printed."""
    nothing = dict.fromkeys(("age", "queue", "work", "size", "karma", "qos", "nice"), 0.0)
    factors = Factors(**nothing | {"age": 1.0, "age_limit_s": 2 * DAY_S})
    limits = replace(TO_THE_SECOND, factors=factors, shares=Shares(refresh_s=1))
    one = a_job(1, submitted_s=NOW_S - waited_s)
    case = snapshot(hosts(1, 1), one, limits=limits, queues=(Queue("default", 1, ordering=Ordering.MULTIFACTOR),))

    found = Priorities(case, Platform(case.topology), Karmas(case.usage, {"default"}, Shares())).of(one)

    assert found == factor
    assert capsys.readouterr() == ("", "")


def test_kao_scheduling_a_job_whose_container_is_missing_hides_no_other() -> None:
    """A ``next`` that should have been ``continue`` let the job through, to a KeyError for the whole pass."""
    lost = a_job(1, types=("inner=77",))

    assert starts(snapshot(hosts(1, 4), lost, a_job(2))) == {2: NOW_S}


def test_lib_job_handling_what_starts_leaves_the_plans_of_the_others() -> None:
    """The filter was inverted: what was planned of all other jobs was removed."""
    busy = snapshot(hosts(1, 2), a_job(1, "core=2"), a_job(2, "core=2"), a_job(3, "core=2"))

    assert starts(busy) == {1: NOW_S, 2: NOW_S + 100, 3: NOW_S + 200}


def test_lib_resource_each_resource_counts_as_one() -> None:
    """An index was set to +1 each time (``=+1``) instead of being counted up."""
    case = snapshot(hosts(2, 3), a_job(1, "host=2/core=2"), running=[held(9, (1, 3), NOW_S + 50)])

    (first, *_) = decide(case).decisions
    assert isinstance(first, Predict)
    assert first.start_s == NOW_S + 50
    alone = decide(snapshot(hosts(2, 3), a_job(1, "host=2/core=2"))).decisions[0]
    assert isinstance(alone, Start)
    ids = [each for begin, end in alone.resources for each in range(begin, end)]
    assert len(ids) == 4
    assert len([each for each in ids if each <= 3]) == 2


def test_lib_resource_there_may_be_more_than_100_000_resources() -> None:
    """A constant said 100 000, and what came behind was never given to a job."""
    many = snapshot(hosts(1, 100_004), a_job(1, "core=100000"), a_job(2, "core=4"), a_job(3, "core=1"))

    assert starts(many) == {1: NOW_S, 2: NOW_S, 3: NOW_S + 100}
