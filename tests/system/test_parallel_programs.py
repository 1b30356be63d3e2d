"""Jobs on several hosts in trouble: while a prologue or an epilogue runs, at their walltime, in a container."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.box import a_box
from tests.support.cluster import Cluster, running_cluster
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until

#: Hosts see each other's /tmp.  The prologue waits on c2 while it is told to, the epilogue fails there if it is.
PROLOGUE = '#!/bin/sh\n[ "$(hostname)" = c2 ] || exit 0\ntouch {0}/in\nwhile [ -e {0}/wait ]; do sleep 0.1; done\n'
EPILOGUE = '#!/bin/sh\necho "$1 $(hostname)" >>{0}/epilogues\n! [ "$(hostname)" = c2 -a -e {0}/bad ]\n'
# Whoever waits for so long fails.
SETTINGS = 'prepare_timeout = "10 min"\norder_timeout = "10 min"\n'


class Programmed(Cluster):
    """A cluster whose prologue and epilogue look for files in ``switches``."""

    switches: Path


@pytest.fixture
def cluster(database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programmed]:
    switches = tmp_path_factory.mktemp("switches")
    switches.parent.chmod(0o755)
    names = {}
    for name, text in (("prologue", PROLOGUE), ("epilogue", EPILOGUE)):
        program = a_box().directory / f"{name}-of-trouble"
        program.write_text(text.format(switches))
        program.chmod(0o755)
        names[name] = program
    programs = f'[prologue]\nnode_prologue = "{names["prologue"]}"\nnode_epilogue = "{names["epilogue"]}"\n'
    with running_cluster(database, settings=f'{SETTINGS}{programs}timeout = "10 min"\n') as cluster:
        cluster.__class__ = Programmed
        assert isinstance(cluster, Programmed)
        cluster.switches = switches
        yield cluster


def a_job_in_its_prologue(cluster: Programmed, *options: str) -> int:
    """A job on two hosts, c2 among them, that runs its prologue there."""
    (cluster.switches / "wait").touch()
    job_id = cluster.oarsub(
        *("-p", "host IN ('c1', 'c2') OR host = 'c3'", "-l", "/host=2/core=1"), *options, "cat $OAR_NODEFILE >>ran"
    )
    wait_until(lambda: (cluster.switches / "in").exists(), timeout_s=60, what="the prologue runs")
    return job_id


def nothing_is_left(cluster: Cluster) -> None:
    for n in (1, 2, 3):
        wait_until(lambda n=n: cluster.entries(f"c{n}") == [], timeout_s=60, what=f"c{n} has nothing left")


@pytest.mark.parametrize(("fault", "mending"), [("cut", "mend"), ("kill", "boot")])
def test_a_host_that_is_lost_during_its_prologue_is_not_waited_for(
    cluster: Programmed, fault: str, mending: str
) -> None:
    job_id = a_job_in_its_prologue(cluster)

    cluster.box.do(fault, "c2")
    try:
        job = cluster.wait_until_final(job_id, timeout_s=120)
    finally:
        (cluster.switches / "wait").unlink()
        cluster.box.do(mending, "c2")

    assert (job.state, job.attempt) == ("Terminated", 2)
    assert cluster.read("ran") == "c1\nc3\n"
    assert ("CPUSET_ERROR", ["c2"]) in cluster.events(job_id)
    nothing_is_left(cluster)


def test_a_job_is_deleted_while_its_prologue_runs(cluster: Programmed) -> None:
    job_id = a_job_in_its_prologue(cluster)

    cluster.run("oardel", str(job_id))

    job = cluster.wait_until_final(job_id, timeout_s=60)
    assert (job.state, job.end_cause) == ("Error", "killed")
    assert not (cluster.work / "ran").exists()
    nothing_is_left(cluster)


def test_an_epilogue_that_fails_on_another_host_speaks_of_that_host(cluster: Programmed) -> None:
    (cluster.switches / "bad").touch()
    job_id = cluster.oarsub("-l", "/host=3/core=1", "true")

    job = cluster.wait_until_final(job_id, timeout_s=60)

    assert (job.state, job.end_cause, job.exit_code) == ("Terminated", "exit", 0)
    assert cluster.events(job_id) == [("EPILOGUE_ERROR", ["c2"])]
    suspected = "SELECT DISTINCT host FROM resources WHERE state = 'Suspected'"
    wait_until(lambda: cluster.database.execute(suspected) == [("c2",)], timeout_s=60, what="c2 is Suspected")
    ran = sorted((cluster.switches / "epilogues").read_text().split("\n"))
    assert ran == ["", f"{job_id} c1", f"{job_id} c2", f"{job_id} c3"]


def test_the_walltime_of_a_job_ends_it_where_it_is_reached(cluster: Programmed) -> None:
    beat = f"while :; do date >>{cluster.work}/beats; sleep 0.1; done"
    job_id = cluster.oarsub("-l", "/host=2/core=1,walltime=0:0:20", f"oarsh c2 {shlex.quote(beat)}; sleep 1000")
    wait_until(lambda: (cluster.work / "beats").exists(), timeout_s=60, what="it works on c2")

    cluster.box.do("cut", "c2")
    try:
        free = "SELECT 1 FROM allocations WHERE job_id = %s AND returned IS NOT NULL"
        wait_until(lambda: cluster.database.execute(free, (job_id,)), timeout_s=90, what="c1 is free")
        assert "sleep 1000" not in cluster.on("c1", "ps", "-eo", "args")
        assert cluster.job(job_id).state == "Finishing"
    finally:
        cluster.box.do("mend", "c2")

    job = cluster.wait_until_final(job_id, timeout_s=60)
    assert (job.state, job.end_cause) == ("Error", "walltime")
    nothing_is_left(cluster)


def test_a_container_keeps_what_a_job_in_it_keeps_and_no_more(cluster: Programmed) -> None:
    container = cluster.oarsub("-t", "container", "-l", "/host=3/core=2,walltime=0:10", "sleep 600")
    cluster.wait_until_state(container, "Running", timeout_s=60)
    inner = cluster.oarsub(
        *("-t", f"inner={container}", "-l", "/host=2/core=2,walltime=0:5"), "oarsh c2 hostname >>began; sleep 1000"
    )
    wait_until(lambda: (cluster.work / "began").exists(), timeout_s=60, what="the inner job runs")

    cluster.box.do("cut", "c2")
    try:
        cluster.run("oardel", str(container))
        cluster.wait_until_state(inner, "Finishing", timeout_s=60)
        cluster.wait_until_state(container, "Finishing", timeout_s=60)
        other = cluster.oarsub("-p", "host <> 'c2'", "-l", "/host=2/core=2", "true")
        assert cluster.wait_until_final(other, timeout_s=90).state == "Terminated"
        assert cluster.job(container).state == "Finishing"
    finally:
        cluster.box.do("mend", "c2")

    assert cluster.wait_until_final(inner, timeout_s=60).state == "Error"
    assert cluster.wait_until_final(container, timeout_s=60).state == "Error"
    nothing_is_left(cluster)
