"""What hosts are described as, and the resources that they become."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from oarpy.errors import SyntaxRefused
from oarpy.model.host_rows import CoreSeen, GpuSeen, HostSeen, Numbers, host_told, line_of, read_hosts, rows_of
from oarpy.node import discovery


def unfold(names: Sequence[str]) -> list[str]:
    return [f"c{n}" for n in (1, 2)] if names[0] == "c[1-2]" else list(names)


def test_a_line_describes_a_set_of_hosts() -> None:
    read = read_hosts("# ours\n\nc[1-2] sockets=2 cores=4 threads=2 memory=8000 gpus=1 cluster=blue\n", unfold)

    cores = (CoreSeen(0, 0, (0, 4)), CoreSeen(0, 0, (1, 5)), CoreSeen(1, 1, (2, 6)), CoreSeen(1, 1, (3, 7)))
    assert read.mistakes == ()
    assert read.hosts == tuple(HostSeen(name, cores, 8000, (GpuSeen(0),), {"cluster": "blue"}) for name in ("c1", "c2"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("c9", "cores=N is missing"),
        ("c9 cores=x", "cores='x' is not a whole number"),
        ("c9 cores=-1", "is not a whole number"),
        ("c9 cores=0", "a socket at least"),
        ("c9 cores=3 sockets=2", "cannot be divided evenly"),
        ("c9 cores=4 cores=4", "cores is said twice"),
        ("c9 cores=4 state=Dead", "'state' is no property"),
        ("c9 cores=4 blue", "'blue' is not NAME=VALUE"),
        ("-oProxyCommand=x cores=4", "cannot be the name of a host"),
        ("c1 cores=4", "c1 stands in line 1 already"),
        ("c9 cores=999999999", "a socket at least"),
    ],
)
def test_a_bad_line_names_itself(line: str, said: str) -> None:
    read = read_hosts(f"c1 cores=4\n{line}\nc3 cores=4", unfold)

    assert len(read.mistakes) == 1
    assert read.mistakes[0].startswith("line 2: ")
    assert said in read.mistakes[0]


def test_numbers_are_unique_across_the_cluster() -> None:
    hosts = read_hosts("c[1-2] sockets=2 cores=2 threads=2", unfold).hosts

    rows = rows_of(hosts, Numbers(cpu=10, core=20, numa=5))

    shown = [(row["host"], row["cpu"], row["core"], row["numa"], row["cpuset"]) for row in rows]
    assert shown == [
        ("c1", 10, 20, 5, "0,2"),
        ("c1", 11, 21, 6, "1,3"),
        ("c2", 12, 22, 7, "0,2"),
        ("c2", 13, 23, 8, "1,3"),
    ]


def test_memory_and_gpus_are_rows_of_their_own() -> None:
    (host,) = read_hosts("c1 cores=2 memory=4001 gpus=2 cluster=blue", unfold).hosts

    def kinds(memory_row_mib: int | None) -> list[tuple[object, ...]]:
        rows = rows_of([host], Numbers(), memory_row_mib=memory_row_mib)
        assert {row["cluster"] for row in rows} == {"blue"}
        return [(row["type"], row.get("gpudevice"), row.get("quantity")) for row in rows[2:]]

    gpus = [("gpu", 0, None), ("gpu", 1, None)]
    assert kinds(None) == [*gpus, ("mem_mib", None, 2000), ("mem_mib", None, 2000)]
    assert kinds(3000) == [*gpus, ("mem_mib", None, 3000)]
    assert kinds(0) == gpus


def test_a_line_that_is_shown_can_be_read_again() -> None:
    text = "c1 sockets=2 cores=4 threads=2 numa=2 gpus=1 memory=8000 cluster=blue"
    (host,) = read_hosts(text, unfold).hosts

    assert line_of(host) == text
    assert read_hosts(line_of(host), unfold).hosts == (host,)


def test_this_machine_describes_itself_in_a_way_that_is_understood() -> None:
    host = host_told("here", discovery.description())

    assert host.cores
    assert host.memory_mib is not None
    assert host.memory_mib > 0


def test_what_the_kernel_tells_is_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cpu in range(4):
        topology = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text(f"{cpu % 2}\n")
        (topology / "core_id").write_text("0\n")
        (tmp_path / f"sys/devices/system/node/node{cpu % 2}/cpu{cpu}").mkdir(parents=True)
    gpu = tmp_path / "proc/driver/nvidia/gpus/0000:3B:00.0"
    gpu.mkdir(parents=True)
    (gpu / "information").write_text("Model: \t X\nDevice Minor: \t 7\n")
    (tmp_path / "sys/bus/pci/devices/0000:3b:00.0").mkdir(parents=True)
    (tmp_path / "sys/bus/pci/devices/0000:3b:00.0/numa_node").write_text("1\n")
    (tmp_path / "proc/meminfo").write_text("MemTotal:  2097152 kB\n")
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2, 3})

    host = host_told("c1", discovery.description(str(tmp_path / "proc"), str(tmp_path / "sys")))

    assert host.cores == (CoreSeen(0, 0, (0, 2)), CoreSeen(1, 1, (1, 3)))
    assert (host.gpus, host.memory_mib) == ((GpuSeen(7, 1),), 2048)


@pytest.mark.parametrize("said", [None, [], {}, {"cores": []}, {"cores": [[0, 0, []]], "gpus": [], "memory_mib": None}])
def test_a_host_that_talks_nonsense_is_not_believed(said: object) -> None:
    with pytest.raises(SyntaxRefused, match="host c1: "):
        host_told("c1", said)
