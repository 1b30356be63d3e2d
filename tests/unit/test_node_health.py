"""When a host is suspected: what its jobs say of it, and what its checks say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from oarpy.model.node_health import Checked, Fate, Kind, Met, Patience, charged, to_quarantine, to_suspect

FIVE = Patience(deaths=5)


def fate(host: str, kind: str, *, died: int = 0, lived: int = 0) -> Fate:
    """``kind`` is user:command."""
    user, _, command = kind.partition(":")
    return Fate(host, Kind(user, command), died, lived)


def hosts(fates: Iterable[Fate], *, most: int = 9, believed: Mapping[str, int] | None = None) -> list[str]:
    counts = {Kind(*name.split(":")): count for name, count in (believed or {}).items()}
    return [each.host for each in to_quarantine(fates, FIVE, believed=counts, most=most)]


def test_a_host_where_an_array_dies_that_lives_elsewhere_is_quarantined() -> None:
    fates = [fate("c1", "alice:a", died=5), fate("c2", "alice:a", lived=2)]

    (found,) = to_quarantine(fates, FIVE)

    assert found.host == "c1"
    assert found.reason == "5 jobs died at once here, 2 with the same commands lived on other hosts"
    assert found.kinds == (Kind("alice", "a"),)


def test_too_few_deaths_say_nothing() -> None:
    assert hosts([fate("c1", "alice:a", died=4), fate("c2", "alice:a", lived=9)]) == []


def test_a_job_that_dies_everywhere_accuses_nobody() -> None:
    fates = [fate(f"c{n}", "alice:a", died=50) for n in range(4)] + [fate("c0", "bob:b", lived=9)]

    assert hosts(fates) == []


def test_a_job_that_now_lives_and_now_dies_accuses_nobody() -> None:
    assert hosts([fate(f"c{n}", "alice:a", died=50, lived=5) for n in range(4)]) == []


def test_one_user_alone_accuses_nobody_where_nothing_can_be_compared() -> None:
    fates = [fate("c1", f"alice:{n}", died=1) for n in range(50)] + [fate("c2", "bob:b", lived=50)]

    assert hosts(fates) == []


def test_several_users_whose_jobs_die_are_believed_when_most_live_elsewhere() -> None:
    dying = [fate("c1", f"{user}:{n}", died=1) for user in ("alice", "bob", "carol") for n in range(2)]

    assert hosts([*dying, fate("c2", "dave:d", lived=1)]) == ["c1"]
    assert hosts([*dying, fate("c2", "dave:d", died=1)]) == []
    assert hosts(dying) == []


def test_a_host_on_which_other_jobs_live_is_left_alone() -> None:
    fates = [fate("c1", "alice:a", died=10), fate("c2", "alice:a", lived=10), fate("c1", "bob:b", lived=5)]

    assert hosts(fates) == []
    assert hosts([*fates[:2], fate("c1", "bob:b", lived=2)]) == ["c1"]


def test_a_job_that_dies_now_and_then_where_it_lives_accuses_nobody() -> None:
    dying, living = fate("c1", "alice:a", died=9), fate("c2", "alice:a", lived=20)

    assert hosts([dying, living]) == ["c1"]
    assert hosts([dying, living, fate("c3", "alice:a", died=5, lived=20)]) == []


def test_a_job_that_dies_on_more_hosts_than_it_lives_on_accuses_nobody() -> None:
    dying = [fate("c1", "alice:a", died=50), fate("c2", "alice:a", died=50)]

    assert hosts([*dying, fate("c3", "alice:a", lived=9)]) == []
    assert hosts([*dying, fate("c3", "alice:a", lived=9), fate("c4", "alice:a", lived=9)]) == ["c1", "c2"]


def test_the_same_kind_is_believed_less_each_time() -> None:
    def dying(times: int) -> list[Fate]:
        return [fate("c2", "alice:a", died=times), fate("c3", "alice:a", lived=1)]

    assert hosts(dying(5)) == ["c2"]
    assert hosts(dying(19), believed={"alice:a": 1}) == []
    assert hosts(dying(20), believed={"alice:a": 1}) == ["c2"]
    assert hosts(dying(79), believed={"alice:a": 2}) == []


def test_so_it_is_in_one_look() -> None:
    dying = [fate("c1", "alice:a", died=21), fate("c2", "alice:a", died=19)]
    living = [fate("c3", "alice:a", lived=9), fate("c4", "alice:a", lived=9)]

    assert hosts([*dying, *living]) == ["c1"]


def test_no_more_hosts_are_taken_than_may_be() -> None:
    dying = [fate("c1", "alice:a", died=5), fate("c2", "bob:b", died=6)]
    living = [fate("c3", "alice:a", lived=5), fate("c3", "bob:b", lived=5)]

    assert hosts([*dying, *living]) == ["c2", "c1"]
    assert hosts([*dying, *living], most=1) == ["c2"]
    assert hosts([*dying, *living], most=0) == []


def test_a_host_without_others_is_never_quarantined() -> None:
    assert hosts([fate("c1", f"{user}:x", died=50) for user in ("alice", "bob", "carol", "dave")]) == []


def test_a_host_is_suspected_when_its_checks_have_failed_often_enough() -> None:
    checks = [Checked("c1", False, "no", 0), Checked("c2", False, "no", 1), Checked("c3", True, "", 5)]

    assert [check.host for check in to_suspect(checks, 2)] == ["c2"]
    assert [check.host for check in to_suspect(checks, 1)] == ["c1", "c2"]


def together(hosts: str, *, died: int = 0, lived: int = 0) -> Met:
    return Met(tuple(hosts.split()), Kind("alice", "mpi"), died, lived)


def test_the_host_that_dying_jobs_have_in_common_is_charged_and_not_those_where_others_live() -> None:
    found = [
        together("c1 c2", died=2),
        together("c2 c3", died=2),
        together("c2 c4", died=2),
        *(together(host, lived=3) for host in ("c1", "c3", "c4")),
    ]

    fates = charged(found)

    assert {fate.host: (fate.died, fate.lived) for fate in fates} == {
        "c1": (0, 3),
        "c2": (6, 0),
        "c3": (0, 3),
        "c4": (0, 3),
    }
    assert hosts(fates) == ["c2"]


def test_jobs_that_die_where_their_like_lives_are_their_own_fault() -> None:
    found = [together("c1 c2", died=9), *(together(host, lived=3) for host in ("c1", "c2", "c3"))]

    assert hosts(charged(found)) == []


def test_what_is_known_of_one_host_stays_there() -> None:
    found = [together("c1", died=5), together("c1", lived=1)]

    (fate,) = charged(found)

    assert (fate.died, fate.lived) == (5, 1)
