"""What a job is kept to on its host, and what is left of it afterwards."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from oarpy.model.states import EndCause
from oarpy.ports.executor import Began, Ended
from tests.support.node import Node, a_node
from tests.support.waiting import wait_until

#: Fills so many MiB of memory.
FILLS = "head -c {}M /dev/zero | tail"


@pytest.fixture(params=["as root", "over ssh"])
def limiting(request: pytest.FixtureRequest) -> Iterator[Node]:
    """A host that can keep jobs to their memory."""
    with a_node(request.param) as node:
        assert node.session is not None
        assert "memory" in node.session.greeting.enforces
        yield node


@pytest.mark.parametrize("kind", ["as its user", "as root", "over ssh, v2"])
def test_what_was_killed_had_used_what_it_had_used(kind: str) -> None:
    with a_node(kind) as node:
        script = "import time\nwhile time.process_time() < 1: pass\nopen('burnt', 'w').close()\ntime.sleep(1000)\n"
        (node.work / "script").write_text(script)
        attempt = node.launch("(python3 script; true); true")
        wait_until(lambda: (node.work / "burnt").exists(), timeout_s=60, what="it has worked for a second")

        node.kill(attempt, after_s=0.0)

        end = node.ended(attempt)
        assert (end.cause, end.ran) == (EndCause.KILLED, True)
        assert end.cpu is not None
        assert 1.0 <= end.cpu.total_seconds() < 3.0


@pytest.fixture
def here() -> Iterator[Node]:
    with a_node("as root") as node:
        yield node


def test_a_job_that_uses_more_memory_than_it_may_ends_for_that_reason(limiting: Node) -> None:
    end = limiting.run(FILLS.format(200), memory_mib=20)

    assert (end.cause, end.ran) == (EndCause.OUT_OF_MEMORY, True)
    assert end.peak_mib in (19, 20)
    said = "it used more memory than the 20 MiB that it may, {} MiB at its peak (processes killed: 1)"
    assert end.short_of_memory in (said.format(19), said.format(20))


def test_a_job_that_stays_within_its_memory_is_told_its_peak_alone(limiting: Node) -> None:
    end = limiting.run(FILLS.format(30), memory_mib=100)

    assert (end.cause, end.status, end.short_of_memory) == (EndCause.EXIT, 0, "")
    assert end.peak_mib is not None
    assert 30 <= end.peak_mib < 100


def test_a_job_that_goes_on_without_what_was_killed_ends_as_it_ends(limiting: Node) -> None:
    end = limiting.run(FILLS.format(200) + "; exit 0", memory_mib=20)

    assert (end.cause, end.status) == (EndCause.EXIT, 0)
    assert end.short_of_memory.startswith("it used more memory than the 20 MiB that it may")


def test_a_part_of_a_job_tells_that_it_was_short_of_memory(here: Node) -> None:
    part = here.launch("", part=True, memory_mib=20)
    here.wait_for(part, Began)
    group = _memory_group(here) / "cgroup.procs"

    # As what comes from the job's head does.
    subprocess.run(["sh", "-c", f"echo $$ > {group}; {FILLS.format(200)}"], capture_output=True, check=False)
    here.kill(part, after_s=0)

    assert here.wait_for(part, Ended).short_of_memory.startswith("it used more memory than the 20 MiB that it may")


@pytest.fixture(params=["as root", "over ssh", "over ssh, v2"])
def gpus(request: pytest.FixtureRequest) -> Iterator[tuple[Node, str, str]]:
    """A host with two devices, which are zero and full under other names."""
    with a_node(request.param) as node:
        assert node.session is not None
        assert "devices" in node.session.greeting.enforces
        for name, minor in (("gpu0", 5), ("gpu1", 7)):
            os.mknod(node.work / name, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
            (node.work / name).chmod(0o666)
        yield node, str(node.work / "gpu0"), str(node.work / "gpu1")


def test_a_job_sees_its_own_devices_only(gpus: tuple[Node, str, str]) -> None:
    node, mine, other = gpus
    looks = "for gpu in gpu0 gpu1; do head -c 1 $gpu >/dev/null && echo $gpu; done; echo ${CUDA_VISIBLE_DEVICES-unset}"

    node.run(looks, job_id=1, denied_devices=(other,), visible_devices="0")
    node.run(looks, job_id=2, denied_devices=(mine, other), visible_devices="")
    node.run(looks, job_id=3, denied_devices=(), visible_devices="0,1")

    assert node.read("1.out") == "gpu0\nunset\n"
    assert "Operation not permitted" in node.read("1.err")
    assert node.read("2.out") == "unset\n"
    assert node.read("3.out") == "gpu0\ngpu1\nunset\n"


def test_a_device_that_the_host_lacks_need_not_be_denied_and_what_is_none_is_refused(
    gpus: tuple[Node, str, str],
) -> None:
    node, _, other = gpus

    lacking = node.run("true", job_id=1, denied_devices=(other, f"{node.work}/gpu7"), visible_devices="0")
    wrong = node.run("true", job_id=2, denied_devices=(str(node.work),), visible_devices="0")

    assert lacking.cause is EndCause.EXIT
    assert (wrong.cause, wrong.event) == (EndCause.LAUNCH_ERROR, "CPUSET_ERROR")
    assert "No such device" in wrong.text


def test_where_devices_cannot_be_denied_programs_are_told_which_are_theirs() -> None:
    with a_node("as its user") as node:
        assert node.session is not None
        assert "devices" not in node.session.greeting.enforces

        node.run(
            "echo $CUDA_VISIBLE_DEVICES $ROCR_VISIBLE_DEVICES", denied_devices=("/dev/full",), visible_devices="0,2"
        )

        assert node.read("1.out") == "0,2 0,2\n"


def _memory_group(node: Node) -> Path:
    for root in (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")):
        found = root / "oarpy" / str(node.instance) / "1.1"
        if found.is_dir():
            return found
    raise AssertionError("the job has no group")
