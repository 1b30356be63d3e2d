"""What is said at the door of requests that can never be satisfied, and of every reason there is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oarpy.errors import NeverFits
from oarpy.model.filters import Comparison
from oarpy.model.request import ResourceRequest
from oarpy.model.states import ResourceState
from oarpy.scheduling import explain
from oarpy.scheduling.feasible import feasible
from oarpy.scheduling.plan import Why
from oarpy.scheduling.platform import Platform
from tests.unit.clusters import asks, hosts


def test_resources_out_of_service_count_at_submission() -> None:
    states = [ResourceState.SUSPECTED, ResourceState.ABSENT, ResourceState.ALIVE, ResourceState.ALIVE]
    platform = Platform(replace(hosts(2, 2), states=states, drain=[True, False, False, False]))

    feasible(platform, ResourceRequest((asks("host=2"),)))


def test_dead_resources_do_not() -> None:
    platform = Platform(replace(hosts(2, 2), states=[ResourceState.DEAD] * 2 + [ResourceState.ALIVE] * 2))

    with pytest.raises(NeverFits, match=r"^host=2 needs 2 of host; among the 2 of 2 resources .*, 1 would do$"):
        feasible(platform, ResourceRequest((asks("host=2"),)))


def test_one_alternative_that_fits_is_enough() -> None:
    feasible(Platform(hosts(2, 2)), ResourceRequest((asks("host=9"), asks("host=1"))))


def test_the_reason_is_that_of_the_first_alternative() -> None:
    impossible = ResourceRequest((asks("core=1", 60, Comparison("host", "=", "x")), asks("host=9")))

    with pytest.raises(NeverFits, match="its filter matches none of the 4 resources"):
        feasible(Platform(hosts(2, 2)), impossible)


def test_the_deep_levels_of_a_request_are_counted_too() -> None:
    with pytest.raises(NeverFits, match=r"host=1/core=3 needs 1 of host; .*, none would do"):
        feasible(Platform(hosts(2, 2)), ResourceRequest((asks("host=1/core=3"),)))


def test_every_reason_has_a_sentence() -> None:
    codes = {value for name, value in vars(explain).items() if name.isupper() and isinstance(value, str)}
    numbers = dict.fromkeys(
        "free matching ahead asleep victims first not_before_s required expected_s state latest_s queue planned "
        "deadline_s expires_s length_s every_s property type total matched request needed found groups reason "
        "container name end_s most rule limit measure in_use asked when_s until_s token wanted left start_s "
        "earliest_s missing reserved".split(),
        1,
    )

    for code in codes:
        assert explain.sentence(Why(code, dict(numbers)))
