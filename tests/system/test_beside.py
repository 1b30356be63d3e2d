"""GPUs and memory beside cores, asked for in brackets."""

from __future__ import annotations

import os

from tests.support.instance import System
from tests.support.waiting import wait_until


def add(system: System, kind: str, quantity: int, rows: int) -> None:
    host = os.uname().nodename
    system.database.execute(
        "INSERT INTO resources (type, network_address, host, quantity) "
        "SELECT %s, %s, %s, %s FROM generate_series(1, %s)",
        (kind, host, host, quantity, rows),
    )


def test_a_job_gets_its_gpu_and_memory_and_waits_for_those_that_others_hold(system: System) -> None:
    add(system, "gpu", 1, 1)
    add(system, "mem_mib", 1024, 3)
    first = system.oarsub("-l", "/host=1[gpu=1,mem_mib=1500]/core=1", 'wc -l <"$OAR_NODEFILE"; sleep 60')
    system.wait_until_state(first, "Running")

    waiting = system.oarsub("-l", "/host=1[mem_mib=1500]/core=1", "true")
    beside = system.oarsub("-l", "/host=1[mem_mib=1000]/core=1", "true")

    system.wait_until_final(beside)
    assert system.job(waiting).state == "Waiting"
    system.run("oardel", str(first))
    system.wait_until_final(waiting)
    assert system.job(waiting).state == "Terminated"
    held = """
        SELECT r.type, count(*) FROM allocations a JOIN resources r ON a.resources @> r.resource_id
        WHERE a.job_id = %s GROUP BY 1 ORDER BY 1
    """
    assert system.database.execute(held, (first,)) == [("default", 1), ("gpu", 1), ("mem_mib", 2)]
    wait_until(lambda: system.read(f"OAR.{first}.stdout").split() == ["1"], what="the node file has one line")


def test_more_than_any_host_has_is_refused_at_once(system: System) -> None:
    add(system, "gpu", 1, 2)

    said = system.run("oarsub", "-l", "/host=1[gpu=3]/core=1", "true", check=False)

    assert said.returncode == 8
    assert "host=1[gpu=3]/core=1 needs 1 of host" in said.stderr
    assert (
        "no resource of type fpga belongs to a host"
        in system.run("oarsub", "-l", "/host=1[fpga=1]", "true", check=False).stderr
    )
