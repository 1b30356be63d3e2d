"""A submission is judged: what it becomes, and the sentences that refuse it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from oarpy.actions.prepared import Prepared
from oarpy.actions.rules import Rule, RuleBook
from oarpy.actions.submit import Cluster, Site, prepare_submit
from oarpy.errors import NeverFits, RequestRefused, SyntaxRefused
from oarpy.instance import shared
from oarpy.model.filter_grammar import filter_to_json, parse_filter
from oarpy.model.payloads import Submitted
from oarpy.model.resource_grammar import parse_wishes, wishes_to_json
from oarpy.model.states import ResourceState
from oarpy.scheduling.platform import Platform
from oarpy.scheduling.snapshot import Topology
from oarpy.settings import Jobs

KINDS = {
    "resource_id": "integer",
    "type": "text",
    "network_address": "text",
    "core": "integer",
    "mem": "real",
    "besteffort": "boolean",
}


def site_of_persons() -> Site:
    """One whose nodes refuse the account ``daemon``."""
    return replace(site(), runs_no_jobs=lambda login: login == "daemon")


def site(*, hosts: int = 2, cores: int = 4, jobs: Jobs | None = None) -> Site:
    size = hosts * cores
    topology = Topology(
        version=1,
        ids=tuple(range(1, size + 1)),
        states=(ResourceState.ALIVE,) * size,
        available_upto_s=(None,) * size,
        drain=(False,) * size,
        properties={
            "resource_id": tuple(range(1, size + 1)),
            "type": ("default",) * size,
            "network_address": tuple(f"c{number // cores + 1}" for number in range(size)),
            "core": tuple(range(1, size + 1)),
            "mem": (16.0,) * size,
            "besteffort": (True,) * size,
        },
    )
    book = RuleBook(shared("conf", "admission_rules.d"))
    queues = frozenset({"default", "admin", "besteffort"})
    return Site(Cluster(Platform(topology), KINDS), queues, book.rules(), jobs or Jobs())


def judged(
    *,
    where: Site | None = None,
    resources: Sequence[str] = (),
    properties: str | None = None,
    login: str = "alice",
    **fields: object,
) -> Prepared:
    payload: dict[str, object] = {"command": "true", "directory": "/tmp", **fields}
    payload["wishes"] = wishes_to_json(parse_wishes(resources))
    if properties is not None:
        payload["filter"] = filter_to_json(parse_filter(properties))
    return prepare_submit(payload, login, where or site())


def refusal(error: type[RequestRefused] = RequestRefused, **wanted: object) -> RequestRefused:
    with pytest.raises(error) as caught:
        judged(**wanted)  # type: ignore[arg-type]
    return caught.value


def test_an_unknown_property_of_a_level_is_named_with_the_one_that_was_meant() -> None:
    refused = refusal(resources=["/coer=1"])

    assert str(refused) == "resources have no property coer; did you mean core?"
    assert refused.exit_status == 8


def test_an_unknown_property_of_a_filter_is_named() -> None:
    refused = refusal(properties="core > 1 AND NOT (wheels IN (3, 4))")

    assert str(refused) == "resources have no property wheels"


@pytest.mark.parametrize("properties", ["core = 'abc'", "core BETWEEN 1 AND 'x'", "mem IN (1, 'big')"])
def test_a_number_is_never_a_word(properties: str) -> None:
    assert "is a number and never" in str(refusal(properties=properties))


def test_truth_is_never_a_number_above_one() -> None:
    assert "besteffort is YES or NO" in str(refusal(properties="besteffort = 7"))


@pytest.mark.parametrize("properties", ["core = '1'", "besteffort = 'yes'", "mem > '1.5'", "network_address LIKE 'c%'"])
def test_values_may_be_written_as_text(properties: str) -> None:
    assert judged(properties=properties).rows == 1


def test_a_request_that_no_state_of_the_cluster_satisfies_is_refused_with_numbers() -> None:
    refused = refusal(NeverFits, resources=["nodes=3"])

    assert str(refused) == (
        "the job could never start: network_address=3 needs 3 of network_address; "
        "among the 8 of 8 resources that its filter matches, 2 would do"
    )
    assert refused.exit_status == 8


def test_one_alternative_that_fits_is_enough() -> None:
    assert judged(resources=["nodes=3", "nodes=2"]).rows == 1


def test_an_unknown_queue_is_refused() -> None:
    refused = refusal(queue="defualt")

    assert str(refused) == "the queue 'defualt' does not exist; did you mean default?"
    assert refused.exit_status == 8


def test_an_array_over_the_site_s_limit_is_refused() -> None:
    refused = refusal(where=site(jobs=Jobs(max_array=10)), array_count=11)

    assert str(refused) == "an array of 11 elements is over the limit of 10"
    assert refused.exit_status == 6


def test_an_array_whose_commands_would_fill_the_disk_is_refused() -> None:
    assert "over the limit" in str(refusal(command="x" * 100_000, array_count=10_000))


def test_two_different_dependencies_on_one_job_are_refused() -> None:
    refused = refusal(dependencies=[[5, "afterok", None, None], [5, "afternotok", None, None]])

    assert str(refused) == "the job is to wait for job 5 in two different ways"


def test_a_field_that_does_not_exist_is_refused() -> None:
    assert "colour" in str(refusal(SyntaxRefused, colour="red"))


def test_a_dry_run_touches_no_table() -> None:
    prepared = judged(dry_run=True)

    assert (prepared.rows, prepared.wakes) == (0, ())


def test_elements_that_share_an_output_file_are_warned_of() -> None:
    answer = judged(array_count=2, stdout="out", dry_run=True).write(None)  # type: ignore[arg-type]

    assert isinstance(answer, Submitted)
    assert answer.warnings == ("all elements write their stdout to out; %jobid% in the name keeps them apart",)


@pytest.mark.parametrize(
    ("start_s", "warnings"),
    [
        (999, ("the date that the reservation is to start at is over; it is asked for from now on",)),
        (1000, ()),
        (1001, ()),
        (None, ()),
    ],
)
def test_a_reservation_from_a_date_that_is_over_is_said_to_begin_now(
    start_s: int | None, warnings: tuple[str, ...]
) -> None:
    prepared = judged(where=replace(site(), now_s=1000), reservation=[start_s, None], dry_run=True)

    answer = prepared.write(None)  # type: ignore[arg-type]

    assert isinstance(answer, Submitted)
    assert answer.warnings == warnings


def test_an_account_that_no_node_would_run_is_refused_at_the_door() -> None:
    with pytest.raises(RequestRefused, match=r"^daemon is an account of the system, and no node runs its jobs$"):
        judged(where=site_of_persons(), login="daemon")

    assert judged(where=site_of_persons(), login="alice").rows == 1


def with_rule(give: str) -> Site:
    """A site one of whose rules gives each job the type ``give``."""
    where = site()
    return replace(where, rules=[*where.rules, Rule("giving", lambda submission: submission.types.append(give))])


def test_a_quality_of_service_is_the_sites_to_give() -> None:
    assert judged(where=with_rule("qos=2.5")).rows == 1

    refused = refusal(where=with_rule("qos=2.5"), types=["qos=9"])

    assert str(refused) == "the type 'qos=9' is given by the site's rules, not by users"
    assert refused.exit_status == 18


def test_a_rule_that_gives_no_number_is_told_so() -> None:
    assert str(refusal(where=with_rule("qos=high"))) == "'qos=high' is not a job type; write qos=NUMBER"


def test_users_give_themselves_no_more_than_niceness() -> None:
    assert judged(types=["nice=20"]).rows == 1
    assert str(refusal(types=["nice=-20"])) == "'nice=-20' is not a job type; write nice=N with N from 0 to 100"


def test_types_are_words_and_no_library() -> None:
    """They are in each job's row, and in its environment."""
    few = [f"mine{number}=" + "x" * 200 for number in range(70)]

    assert judged(types=few).rows == 1
    assert str(refusal(types=[*few, *(each + "y" for each in few)])) == (
        "the types have 29170 bytes in all, and a job may have 16384"
    )
