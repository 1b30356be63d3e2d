"""Which devices of a host a job is kept from."""

from __future__ import annotations

import pytest

from oarpy.errors import ConfigurationError
from oarpy.modules.job_launch import device_path, sweep_of
from oarpy.modules.machines import Machines
from oarpy.settings import Nodes
from tests.support.postgres import TestDatabase


def machines(database: TestDatabase, kind: str, values: str) -> Machines:
    """Hosts c1 and c2 with the resources 1 to 4 and 5 to 8; ``values`` makes gpudevice of n, 0 to 3."""
    database.execute(f"ALTER TABLE resources ADD COLUMN gpudevice {kind}")
    database.execute(
        "INSERT INTO resources (resource_id, type, network_address, host, gpudevice) OVERRIDING SYSTEM VALUE "
        f"SELECT 4 * h + n + 1, 'default', 'c' || h + 1, 'c' || h + 1, {values} "
        "FROM generate_series(0, 1) AS h, generate_series(0, 3) AS n"
    )
    found = Machines()
    with database.engine.begin() as conn:
        found.refresh(conn)
    return found


def test_who_holds_one_core_of_a_gpu_has_its_device_and_others_are_counted_by_host(database: TestDatabase) -> None:
    found = machines(database, "integer", "n / 2 + 10 * h")

    assert found.devices([1, 5, 6], "c1") == ({"0"}, ["0", "1"])
    assert found.devices([1, 5, 6], "c2") == ({"10"}, ["10", "11"])
    assert found.devices([1], "c2") == (set(), ["10", "11"])
    assert found.devices([1], "c3") == (set(), [])


def test_numbers_and_paths_stand_in_the_order_that_people_count_in(database: TestDatabase) -> None:
    found = machines(database, "text", "(ARRAY['/dev/g10', '/dev/g9', '', NULL])[n + 1]")

    assert found.devices([1, 3, 4], "c1") == ({"/dev/g10", "", "None"}, ["/dev/g9", "/dev/g10"])


def test_a_site_without_the_property_keeps_nobody_from_anything(database: TestDatabase) -> None:
    found = Machines()
    with database.engine.begin() as conn:
        found.refresh(conn)

    assert found.devices([1], "c1") == (set(), [])


@pytest.mark.parametrize(
    ("name", "pattern", "path"),
    [("2", "/dev/nvidia#", "/dev/nvidia2"), ("/dev/dri/renderD128", "/dev/nvidia#", "/dev/dri/renderD128")],
)
def test_a_device_is_named_by_its_number_or_its_path(name: str, pattern: str, path: str) -> None:
    assert device_path(name, pattern) == path


@pytest.mark.parametrize(
    "wrong",
    [
        {"gpu_device": "nvidia#"},
        {"gpu_device": "/dev/nvidia"},
        {"clean_directories": ("/",)},
        {"clean_directories": ("tmp",)},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        Nodes(**wrong)  # type: ignore[arg-type]  # what is wrong is its value


def test_what_is_swept_is_what_the_site_says() -> None:
    assert sweep_of(Nodes()) == ("ipc",)
    assert sweep_of(Nodes(clean_ipc=False, clean_processes=True, clean_directories=("/tmp",))) == ("processes", "/tmp")
