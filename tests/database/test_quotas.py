"""Quotas in their tables: what the scheduler reads there, and what the constraints refuse."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from fractions import Fraction

import psycopg2
import pytest

from oarpy.database.snapshot import SnapshotReader
from oarpy.errors import SyntaxRefused
from oarpy.model.quota_calendar import parse_period
from oarpy.model.quotas import Amount, Measure, Rule, parse_amount
from oarpy.modules.context import Context
from oarpy.scheduling.snapshot import QuotaRules
from oarpy.settings import Quotas, Settings
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until

PARIS = Settings(
    quotas=Quotas(resource_types=("default", "licence"), timezone="Europe/Paris", horizon=timedelta(days=2))
)


def read(database: TestDatabase, reader: SnapshotReader | None = None, settings: Settings = PARIS) -> QuotaRules | None:
    ctx = Context(database.engine, settings)
    with ctx.snapshot() as conn:
        return (reader or SnapshotReader()).read(conn, ctx.limits()).snapshot.quotas


def test_without_rules_there_are_no_quotas(database: TestDatabase) -> None:
    database.execute("INSERT INTO quota_periods (ruleset) VALUES ('night')")

    assert read(database) is None


def test_a_rule_says_only_what_it_names(database: TestDatabase) -> None:
    database.execute("INSERT INTO quotas (job_user, resources, resource_hours) VALUES ('alice', 10, '0.5*ALL')")

    limits = {Measure.RESOURCES: Amount(Fraction(10)), Measure.HOURS: Amount(Fraction(1, 2), of_all=True)}
    assert read(database) == QuotaRules(
        {"default": (Rule("*", "*", "*", "alice", limits),)}, types=("default", "licence")
    )


def test_the_calendar_is_worked_out_in_the_sites_time_and_for_so_far_ahead(database: TestDatabase) -> None:
    database.execute("INSERT INTO quotas (ruleset, running_jobs) VALUES ('night', 2)")
    database.execute("INSERT INTO quota_periods (ruleset, hours) VALUES ('night', '19:00-08:00')")
    database.execute(
        "INSERT INTO quota_periods (ruleset, begins_at, ends_at) VALUES ('free', now() + '1 day', now() + '25 hours')"
    )

    quotas = read(database)

    assert quotas is not None
    ((hour, now_s, in_a_day),) = database.execute(
        "SELECT extract(hour FROM now() AT TIME ZONE 'Europe/Paris')::int, floor(extract(epoch FROM now()))::bigint,"
        " floor(extract(epoch FROM begins_at))::bigint FROM quota_periods WHERE ruleset = 'free'"
    )
    assert [name for begin_s, name in quotas.calendar if begin_s <= now_s][-1] == (
        "default" if 8 <= hour < 19 else "night"
    )
    assert (in_a_day, "free") in quotas.calendar
    assert 0 <= now_s + 2 * 86_400 - quotas.until_s < 3600


def test_what_has_not_changed_is_not_made_again_and_an_edit_is_seen(database: TestDatabase) -> None:
    database.execute("INSERT INTO quotas (running_jobs) VALUES (2)")
    reader = SnapshotReader()
    first, second = read(database, reader), read(database, reader)

    database.execute("UPDATE quotas SET running_jobs = 3")
    third = read(database, reader)

    assert second is first
    assert third is not None
    assert third.sets["default"][0].limits == {Measure.JOBS: Amount(Fraction(3))}


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO quotas (running_jobs) VALUES (1)",
        "TRUNCATE quotas",
        "INSERT INTO quota_periods (ruleset) VALUES ('night')",
        "DELETE FROM quota_periods",
    ],
)
def test_an_edit_wakes_the_server(database: TestDatabase, statement: str) -> None:
    with closing(database.connect()) as listener:
        listener.autocommit = True
        with listener.cursor() as cursor:
            cursor.execute("LISTEN oar_almighty")

        database.execute(statement)

        def heard() -> bool:
            listener.poll()
            return bool(listener.notifies)

        wait_until(heard, what="a notification")


def accepts(work: Callable[[], object], refusal: type[Exception]) -> bool:
    try:
        work()
    except refusal:
        return False
    return True


@pytest.mark.parametrize(
    ("column", "measure"),
    [("resources", Measure.RESOURCES), ("running_jobs", Measure.JOBS), ("resource_hours", Measure.HOURS)],
)
def test_the_constraints_on_amounts_accept_what_the_scheduler_reads(
    database: TestDatabase, column: str, measure: Measure
) -> None:
    texts = "0 12 ALL 0.5*ALL 2*ALL 1.5 -1 all ALL* *ALL .5*ALL 1.*ALL 1e3 1234567890 10\n 0.1234567 ٣ 1*ALL*2 inf nan"
    samples = [*texts.split(" "), "", "999999999.999999*ALL"]

    for sample in samples:
        by_table = accepts(
            lambda sample=sample: database.execute(
                f"INSERT INTO quotas (job_user, {column}) VALUES (%s, %s)", [f"u{samples.index(sample)}", sample]
            ),
            psycopg2.Error,
        )
        assert by_table == accepts(lambda sample=sample: parse_amount(sample, measure), SyntaxRefused), sample


def test_the_constraints_on_periods_accept_what_the_scheduler_reads(database: TestDatabase) -> None:
    hours = "* 08:00-19:00 8:00-9:00 19:00-08:00 00:00-24:00 00:00-24:30 24:00-01:00 08:00 "
    hours += "08:60-09:00 8-9 , 08:00-09:00,10:00-11:00 08:00-09:00,"
    weekdays = "* mon mon-fri sat-mon mon,wed-thu mon- -mon monday MON 1 mon,,tue"
    days = "* 1 01 31 32 0 00 1-15,31 28-3 1- mon 001"
    months = "* 1 12 13 0 jan jan-mar,12 nov-2 july 01 JAN"
    columns = {"hours": hours, "weekdays": weekdays, "days": days, "months": months}

    for column, sample in (
        (column, text) for column, texts in columns.items() for text in [*texts.split(" "), "", "*\n"]
    ):
        by_table = accepts(
            lambda column=column, sample=sample: database.execute(
                f"INSERT INTO quota_periods (ruleset, {column}) VALUES ('x', %s)", [sample]
            ),
            psycopg2.Error,
        )
        by_code = accepts(lambda column=column, sample=sample: parse_period("x", **{column: sample}), SyntaxRefused)
        assert by_table == by_code, (column, sample)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO quotas (job_type) VALUES ('/')",
        "INSERT INTO quotas (job_user) VALUES ('a,b')",
        "INSERT INTO quotas (queue_name) VALUES ('')",
        "INSERT INTO quotas (job_user) VALUES ('a'), ('a')",
        "INSERT INTO quota_periods (ruleset, begins_at) VALUES ('x', now())",
        "INSERT INTO quota_periods (ruleset, begins_at, ends_at) VALUES ('x', now(), now())",
        "INSERT INTO quota_periods (ruleset, begins_at, ends_at) VALUES ('x', now(), 'infinity')",
        "INSERT INTO quota_periods (ruleset, days, begins_at, ends_at) VALUES ('x', '1', '2026-01-01', '2027-01-01')",
    ],
)
def test_what_makes_no_sense_is_refused(database: TestDatabase, statement: str) -> None:
    with pytest.raises(psycopg2.IntegrityError):
        database.execute(statement)
