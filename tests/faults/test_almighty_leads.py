"""Almighty as a whole: it leads, is replaced, and lets nothing stop it but a request to."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.instance import PROCESSES, SETTINGS, System, running_system
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until


@contextmanager
def started(system: System, module: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process of the same instance, told to end at the end."""
    with open(system.home / "log" / f"{module}.log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module], stdout=log, stderr=log, cwd="/", env=system.environment
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def leader(system: System) -> tuple[int, int]:
    """(epoch, pid) of the leader."""
    ((epoch, pid),) = system.database.execute("SELECT epoch, pid FROM leadership")
    return int(str(epoch)), int(str(pid))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def check_that_jobs_run(system: System) -> None:
    assert system.wait_until_final(system.oarsub("true")).state == "Terminated"


def test_a_second_almighty_stands_by_and_takes_over_when_the_first_is_killed(system: System) -> None:
    with started(system, "oarpy.almighty") as second:
        wait_until(lambda: "standing by" in system.log(), what="the second stands by")
        epoch, _ = leader(system)
        orphans = system.processes()
        assert second.pid not in orphans.values()

        system.kill()

        wait_until(lambda: leader(system) == (epoch + 1, second.pid))
        wait_until(lambda: not any(map(is_alive, orphans.values())), what="the processes of the first are gone")
        check_that_jobs_run(system)


def test_an_almighty_that_lost_its_lease_ends_its_processes_and_leads_again_when_it_may(system: System) -> None:
    before = system.processes()

    system.database.execute("UPDATE leadership SET epoch = epoch + 1, holder = gen_random_uuid(), host = 'elsewhere'")

    children = [before[name] for name in PROCESSES]
    wait_until(lambda: not any(map(is_alive, children)), what="its processes have ended")
    assert is_alive(before["almighty"])
    # Whoever took the lease does not renew it.
    wait_until(lambda: leader(system)[1] == before["almighty"], what="it leads again")
    check_that_jobs_run(system)


@pytest.mark.parametrize("name", sorted(PROCESSES))
def test_a_killed_process_is_replaced_and_the_others_are_not(system: System, name: str) -> None:
    before = system.processes()

    os.kill(before[name], signal.SIGKILL)

    wait_until(lambda: system.processes()[name] != before[name])
    after = system.processes()
    assert {other for other in before if after[other] != before[other]} == {name}
    assert system.database.execute("SELECT restarts FROM processes WHERE name = %s", (name,)) == [(1,)]
    check_that_jobs_run(system)


def test_finaud_is_there_while_there_is_another_host(database: TestDatabase) -> None:
    settings = SETTINGS.replace("[server]\n", '[server]\nfinaud_period = "200 ms"\n') + '[health]\ncheck = "none"\n'
    at_rest = "SELECT restarts FROM processes WHERE name = 'finaud' AND pid IS NULL"
    with running_system(database, settings=settings) as system:
        alone = system.database.execute(at_rest)
        system.database.execute("INSERT INTO resources (network_address) VALUES ('c1')")
        first = wait_until(lambda: system.processes().get("finaud"), what="finaud lives")
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: system.processes().get("finaud") not in (None, first), what="finaud lives again")
        system.database.execute("UPDATE resources SET state = 'Dead' WHERE network_address = 'c1'")
        alone_again = wait_until(lambda: system.database.execute(at_rest), what="finaud rests")

        check_that_jobs_run(system)

    assert alone == [(0,)]
    assert alone_again == [(1,)]


def test_without_its_supervisor_almighty_ends_and_leaves_nobody(system: System) -> None:
    assert system.almighty is not None
    before = system.processes()

    os.kill(before["supervisor"], signal.SIGKILL)

    assert system.almighty.wait(60) != 0
    system.almighty = None
    wait_until(lambda: not any(map(is_alive, before.values())), what="nobody is left")
    system.start()
    check_that_jobs_run(system)


def test_told_to_stop_almighty_leaves_no_process_and_says_so(system: System) -> None:
    before = system.processes()

    system.stop()

    assert system.processes() == {}
    assert not any(map(is_alive, before.values()))


def test_a_service_manager_is_told_when_almighty_leads_and_when_it_stops(system: System, tmp_path: Path) -> None:
    system.stop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        system.environment["NOTIFY_SOCKET"] = str(tmp_path / "notify")

        system.start()
        begun = manager.recv(4096).decode()
        system.stop()
        ended = manager.recv(4096).decode()

    assert re.fullmatch(r"READY=1\nSTATUS=leads epoch \d+", begun)
    assert ended == "STOPPING=1\nSTATUS=stops"


def test_a_module_that_fails_stops_nothing_and_is_reported_once(system: System) -> None:
    system.database.execute(
        "CREATE FUNCTION break() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN RAISE EXCEPTION ''broken on purpose''; END'; "
        "CREATE TRIGGER broken BEFORE UPDATE ON frag_jobs FOR EACH STATEMENT EXECUTE FUNCTION break()"
    )
    failures = "SELECT description FROM events WHERE type = 'MODULE_FAILED'"
    wait_until(lambda: system.log().count("sarko: failed") >= 3, what="sarko has failed thrice")

    check_that_jobs_run(system)

    ((description,),) = system.database.execute(failures)
    assert "broken on purpose" in str(description)
    assert "Traceback" in system.log()


def test_an_admins_change_takes_effect_at_once(hinted_system: System) -> None:
    system = hinted_system
    system.database.execute("UPDATE queues SET state = 'notActive'")
    job_id = system.oarsub("true")
    wait_until(lambda: system.database.execute("SELECT 1 FROM predictions WHERE job_id = %s", (job_id,)))

    system.database.execute("UPDATE queues SET state = 'Active'")

    system.wait_until_state(job_id, "toLaunch", "Launching", "Running", "Finishing", "Terminated")


def test_the_keeper_starts_almighty_again_and_stops_it_when_told_to(system: System) -> None:
    system.stop()
    with started(system, "oarpy.almighty.keeper") as keeper:
        wait_until(lambda: system.processes().keys() >= PROCESSES)
        first = system.processes()

        os.kill(first["almighty"], signal.SIGKILL)

        wait_until(lambda: system.processes().get("almighty") not in (None, first["almighty"]))
        wait_until(lambda: system.processes().keys() >= PROCESSES)
        last = system.processes()
        check_that_jobs_run(system)
        keeper.terminate()

        assert keeper.wait(60) == 0
    assert not any(map(is_alive, [*first.values(), *last.values()]))
    assert not (system.home / "run" / "keeper.pid").exists()


def test_one_instance_has_one_keeper(system: System) -> None:
    system.stop()
    with started(system, "oarpy.almighty.keeper") as first, started(system, "oarpy.almighty.keeper") as second:
        wait_until(lambda: first.poll() is not None or second.poll() is not None)

        assert [first.poll(), second.poll()].count(None) == 1


def test_a_configuration_that_is_wrong_is_told_and_not_tried_again(system: System) -> None:
    system.stop()
    (system.home / "oarpy.toml").write_text("[server]\nleese = '3 s'\n")

    with started(system, "oarpy.almighty.keeper") as keeper:
        status = keeper.wait(60)

    assert status == 78
    assert "did you mean lease?" in system.log()


def test_a_turn_by_hand_belongs_to_the_present_epoch(system: System) -> None:
    epoch = leader(system)

    said = [system.admin("oarpy", "module", name).stdout for name in ("sarko", "leon", "node_change_state")]

    assert said == ["nothing\n"] * 3
    assert leader(system) == epoch
    check_that_jobs_run(system)


def test_an_unknown_module_is_refused_with_those_that_exist(system: System) -> None:
    done = system.admin("oarpy", "module", "nonesuch", check=False)

    assert done.returncode == 78
    assert "sarko" in done.stderr


def test_all_processes_together_are_small(system: System) -> None:
    check_that_jobs_run(system)

    own_kib = sum(_own_kib(pid) for pid in system.processes().values())

    assert own_kib < 102 * 1024


def _own_kib(pid: int) -> int:
    """Its part of what it and its relatives have; of the libraries others have a part, too, if they happen to run."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss_Anon:"))
