"""When a lost host has certainly killed what it was to kill."""

from __future__ import annotations

from oarpy.modules.fencing import Fences


def test_a_lease_counts_from_when_the_clock_was_heard_that_was_told_back() -> None:
    fences = Fences(margin_s=5, now=0)
    fences.heard("c1", clock=1000.0, now=100)
    fences.heard("c1", clock=1010.0, now=110)

    # Told back at whatever time after: the host counts from its clock, which is 1010.
    assert fences.grant("c1") == 1010.0

    assert not fences.is_over("c1", 20, now=134.9)
    assert fences.is_over("c1", 20, now=135)


def test_what_was_heard_and_not_told_back_prolongs_nothing() -> None:
    fences = Fences(margin_s=5, now=0)
    fences.heard("c1", clock=1000.0, now=100)
    fences.grant("c1")

    fences.heard("c1", clock=1030.0, now=130)

    assert fences.is_over("c1", 20, now=130)


def test_a_new_runner_counts_from_its_own_beginning() -> None:
    fences = Fences(margin_s=5, now=50)

    assert not fences.is_over("c1", 20, now=74.9)
    assert fences.is_over("c1", 20, now=75)
    # That it answers again does not count before it is told.
    fences.heard("c1", clock=1.0, now=74)
    assert fences.is_over("c1", 20, now=75)


def test_a_lease_begins_with_a_clock_that_was_heard_lately() -> None:
    fences = Fences(margin_s=5, now=0)

    assert not fences.is_fresh("c1", 20, now=1)
    fences.heard("c1", clock=1.0, now=1)
    assert fences.is_fresh("c1", 20, now=5.9)
    assert not fences.is_fresh("c1", 20, now=6)


def test_a_host_is_told_four_times_in_a_lease() -> None:
    fences = Fences(margin_s=5, now=0)

    assert not fences.is_due("c1", 20, now=1)
    fences.heard("c1", clock=1.0, now=1)
    assert fences.is_due("c1", 20, now=1)
    fences.grant("c1")
    assert not fences.is_due("c1", 20, now=5.9)
    assert fences.is_due("c1", 20, now=6)
