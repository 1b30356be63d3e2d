"""What may have happened while the server prologue of a launch ran."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from oarpy.database import launches, leadership
from oarpy.database.connection import open_engine, transaction
from oarpy.errors import NotLeader
from oarpy.model.states import EndCause, JobId, JobState
from oarpy.modules.context import Context
from oarpy.ports.executor import OrderWord
from oarpy.settings import Prologue, Settings
from tests.support import rows
from tests.support.paper_hosts import PaperHosts
from tests.support.postgres import TestDatabase
from tests.support.runners import serving
from tests.support.waiting import wait_until

DEADLINE_S = 60.0


@dataclass
class Site:
    """A database, and a server prologue that waits for a word."""

    database: TestDatabase
    place: Path
    context: Context

    def submit(self) -> JobId:
        """A job with a lease that is to be launched on c1."""
        with transaction(self.database.engine, None, durable=False) as conn:
            (resource,) = rows.resources(conn, "c1")
            (job_id,) = rows.submitted(conn, types=("reassign",))
            rows.brought(conn, [job_id], JobState.TO_LAUNCH, holds=f"{{[{resource},{resource + 1})}}")
        return job_id

    def wait_until_it_runs(self, job_id: JobId) -> None:
        wait_until(lambda: (self.place / f"begun{job_id}").exists(), timeout_s=DEADLINE_S, what="the prologue runs")

    def let_it_end(self, job_id: JobId) -> None:
        (self.place / f"go{job_id}").touch()


@pytest.fixture
def site(database: TestDatabase, tmp_path: Path) -> Site:
    program = tmp_path / "prologue"
    program.write_text(
        f"#!/bin/sh\necho $1 >> {tmp_path}/begun$1\nuntil test -e {tmp_path}/go$1; do sleep 0.02; done\n"
        f"test ! -e {tmp_path}/bad\n"
    )
    program.chmod(0o755)
    with database.engine.begin() as conn:
        epoch = leadership.take(conn, None, holder=uuid.uuid4(), host="here", pid=os.getpid())
    settings = Settings(prologue=Prologue(server_prologue=str(program), timeout=timedelta(minutes=5)))
    engine = open_engine(database.parameters("oar"), application_name="oarpy/1/runner")
    return Site(database, tmp_path, Context(engine, settings, epoch))


def test_a_launch_follows_its_prologue_with_a_lease_that_counts_from_then(site: Site) -> None:
    hosts = PaperHosts()
    job_id = site.submit()

    with serving(site.context, hosts.reach):
        site.wait_until_it_runs(job_id)
        assert hosts.launched == []
        site.let_it_end(job_id)
        wait_until(lambda: hosts.launched, timeout_s=DEADLINE_S, what="the launch")

    (launch,) = hosts.launched
    assert (launch.attempt, launch.lease) == ((job_id, 1), site.context.settings.nodes.lease)


def test_a_runner_that_lost_its_term_meanwhile_begins_nothing(site: Site) -> None:
    """The next one counts leases from its own beginning: one that began later would outlast what it believes."""
    hosts = PaperHosts()
    job_id = site.submit()

    with serving(site.context, hosts.reach) as ended:
        site.wait_until_it_runs(job_id)
        with site.database.engine.begin() as conn:
            leadership.take(conn, leadership.reign(conn), holder=uuid.uuid4(), host="there", pid=1)
        site.let_it_end(job_id)
        wait_until(lambda: ended, timeout_s=DEADLINE_S, what="the runner has ended")

    assert isinstance(ended[0], NotLeader)
    assert hosts.launched == []


def test_a_job_that_was_fenced_meanwhile_is_not_begun(site: Site) -> None:
    hosts = PaperHosts()
    fenced = site.submit()

    with serving(site.context, hosts.reach):
        site.wait_until_it_runs(fenced)
        with transaction(site.database.engine, None, durable=False) as conn:
            assert launches.finish(conn, [launches.End(fenced, EndCause.FENCED, None, None, ran=False)]) == [fenced]
        site.let_it_end(fenced)
        later = site.submit()
        site.let_it_end(later)
        wait_until(lambda: hosts.launched, timeout_s=DEADLINE_S, what="a later job is launched")

    assert [launch.attempt.job_id for launch in hosts.launched] == [later]


def test_a_job_whose_prologue_failed_is_given_up(site: Site) -> None:
    hosts = PaperHosts()
    job_id = site.submit()
    (site.place / "bad").touch()
    site.let_it_end(job_id)

    with serving(site.context, hosts.reach):
        wait_until(lambda: hosts.ordered, timeout_s=DEADLINE_S, what="an order")

    assert [(order.word, order.attempt) for order in hosts.ordered] == [(OrderWord.REFUSE, (job_id, 1))]
    assert hosts.launched == []


def test_a_link_that_is_lost_meanwhile_costs_no_second_prologue(site: Site) -> None:
    hosts = PaperHosts()
    job_id = site.submit()

    with serving(site.context, hosts.reach):
        site.wait_until_it_runs(job_id)
        hosts.sessions[0].hang_up()
        wait_until(lambda: len(hosts.sessions) == 2, timeout_s=DEADLINE_S, what="another session")
        site.let_it_end(job_id)
        wait_until(lambda: hosts.launched, timeout_s=DEADLINE_S, what="the launch")

    assert [launch.attempt for launch in hosts.launched] == [(job_id, 1)]
    assert (site.place / f"begun{job_id}").read_text().split() == [str(job_id)]
