from __future__ import annotations

from pathlib import Path

from oarpy.drivers.cores import Core, usable_cores


def machine(root: Path, *processors: tuple[int, int]) -> Path:
    """A description of processors, each given as (socket, core)."""
    for number, (socket, core) in enumerate(processors):
        topology = root / f"cpu{number}" / "topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text(f"{socket}\n")
        (topology / "core_id").write_text(f"{core}\n")
    return root


def test_processors_of_one_core_are_one_resource(tmp_path):
    cpus = machine(tmp_path, (0, 0), (0, 1), (0, 0), (0, 1))

    assert usable_cores({0, 1, 2, 3}, cpus) == (Core(0, 0, (0, 2)), Core(0, 1, (1, 3)))


def test_cores_of_different_sockets_have_different_numbers(tmp_path):
    cpus = machine(tmp_path, (0, 0), (1, 0))

    assert usable_cores({0, 1}, cpus) == (Core(0, 0, (0,)), Core(1, 1, (1,)))


def test_processors_that_this_process_may_not_use_are_left_out(tmp_path):
    cpus = machine(tmp_path, (0, 0), (0, 1), (0, 0), (0, 1))

    assert usable_cores({2, 3}, cpus) == (Core(0, 2, (2,)), Core(0, 3, (3,)))


def test_without_a_description_every_processor_is_a_core(tmp_path):
    assert usable_cores({0, 1}, tmp_path) == (Core(0, 0, (0,)), Core(0, 1, (1,)))


def test_a_core_names_its_processors_as_a_cpuset():
    assert Core(0, 1, (1, 3)).cpuset == "1,3"


def test_this_machine_has_cores():
    assert usable_cores()
