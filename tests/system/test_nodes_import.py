"""From hosts that answer over ssh to resources that jobs are given."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest

from tests.support import box
from tests.support.instance import SETTINGS, System, running_system
from tests.support.postgres import TestDatabase

CORES = "SELECT host, count(*), count(DISTINCT core) FROM resources WHERE type = 'default' GROUP BY 1 ORDER BY 1"


@pytest.fixture
def system(database: TestDatabase) -> Iterator[System]:
    with running_system(database, slots=0) as system:
        yield system


def test_hosts_that_are_asked_become_resources_and_run_jobs(database: TestDatabase) -> None:
    nodes = f'[nodes]\nssh = "{shlex.join(box.a_box().ssh)}"\nspool_dir = "/var/spool/oarpy-import"\n'
    with running_system(database, slots=0, settings=SETTINGS + nodes) as system:
        shown = system.admin("oarpy", "nodes", "import", "--dry-run", "c1").stdout
        assert shown.startswith("c1 ")
        assert database.execute(CORES) == []

        said = system.admin("oarpy", "nodes", "import", "c[1-2]").stdout

        assert said.startswith("2 host(s), ")
        rows = database.execute(CORES)
        assert [row[0] for row in rows] == ["c1", "c2"]
        assert all(row[1] == row[2] for row in rows)
        assert database.execute("SELECT property FROM repeated_numbers()") == []
        again = system.admin("oarpy", "nodes", "import", "c[1-2]")
        assert again.stdout == "0 host(s), 0 resource(s) added\n"
        assert "which are left as they are" in again.stderr
        job_id = system.oarsub("-p", "host = 'c2'", "hostname")
        assert system.wait_until_final(job_id).state == "Terminated"
        assert system.read(f"OAR.{job_id}.stdout") == "c2\n"


def test_one_host_that_does_not_answer_adds_none(database: TestDatabase) -> None:
    nodes = f'[nodes]\nssh = "{shlex.join(box.a_box().ssh)}"\n'
    with running_system(database, slots=0, settings=SETTINGS + nodes) as system:
        failed = system.admin("oarpy", "nodes", "import", "c1", "nowhere", check=False)

        assert failed.returncode == 75
        assert "host nowhere: " in failed.stderr
        assert database.execute("SELECT 1 FROM resources") == []


def test_a_bad_line_of_a_file_adds_nothing_and_names_itself(system: System) -> None:
    (system.work / "hosts").write_text("c[1-4] cores=2 sockets=2 memory=2000\nc5 cores=many\nc6 cores=1 blue=1\n")

    failed = system.admin("oarpy", "nodes", "import", "-f", "hosts", check=False)
    assert failed.returncode == 18
    assert "hosts: line 2: cores='many' is not a whole number" in failed.stderr
    (system.work / "hosts").write_text("c[1-4] cores=2 sockets=2 memory=2000\nc6 cores=1 blue=1\n")
    undefined = system.admin("oarpy", "nodes", "import", "-f", "hosts", check=False)
    assert "host c6: there is no property blue" in undefined.stderr
    assert system.database.execute("SELECT 1 FROM resources") == []

    (system.work / "hosts").write_text("c[1-4] cores=2 sockets=2 memory=2000\n")
    assert system.admin("oarpy", "nodes", "import", "-f", "hosts").stdout.startswith("4 host(s), 16 resource(s)")
    assert system.run("oarpy", "nodes", "import", "-f", "hosts", check=False).returncode == 8
