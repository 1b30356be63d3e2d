"""Each option of oarstat and oarnodes, as people type it, on a running instance."""

from __future__ import annotations

import json
import os
import pwd
import re
import time

import pytest
import yaml

from tests.support.instance import System
from tests.support.schemas import schema
from tests.support.waiting import wait_until

DATE = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
BURN = "python3 -c 'import time; a = bytearray(60 << 20); t = time.process_time\nwhile t() < 1: pass'"


def date(later_s: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() + later_s))


@pytest.fixture
def jobs(system: System) -> dict[str, int]:
    """One that ended with status 3, one that runs, an array of two that waits."""
    ended = system.oarsub("-n", "first", "-l", "/core=1,walltime=0:10:0", f"{BURN}; exit 3")
    system.wait_until_final(ended)
    running = system.oarsub("-l", "/core=3,walltime=1", "sleep 600")
    system.wait_until_state(running, "Running")
    array = int(
        re.findall(r"OAR_ARRAY_ID=(\d+)", system.run("oarsub", "--array", "2", "-l", "/core=4", "true").stdout)[0]
    )
    planned = "SELECT count(*) FROM predictions WHERE start_at IS NOT NULL"
    wait_until(lambda: system.database.execute(planned) == [(2,)], what="the array is planned")
    return {"ended": ended, "running": running, "array": array}


def test_every_view_of_oarstat_tells_of_real_jobs(system: System, jobs: dict[str, int]) -> None:
    ended, running, array = jobs["ended"], jobs["running"], jobs["array"]
    period = f"{date(-7200)}, {date(86400)}"

    def said(*arguments: str) -> str:
        done = system.run("oarstat", *arguments)
        assert done.stderr == ""
        return done.stdout

    assert re.search(rf"^{running} +R {system.user.pw_name:<8.8} ", said(), re.MULTILINE)
    assert f"\n{ended} " not in said("-u")
    assert said("-sj", str(ended)) == f"{ended}: Terminated\n"
    assert f"\n2@{array} " in said("-c")
    assert re.search(rf"^{array} +{array} +1 +W ", said("--array", str(array)), re.MULTILINE)
    assert "    exit_code = 768 (3,0,0)\n" in said("-fj", str(ended))
    assert "    initial_request = oarsub -n first" in said("-fj", str(ended))
    assert re.match(r"available_upto = '.*' , .*network_address = '", said("-pj", str(running)))
    assert yaml.safe_load(said("-Y", "--sql", f"id = {ended}"))[str(ended)]["name"] == "first"
    assert json.loads(said("-J", "-s", "-j", f"{ended}-{running}")) == {
        str(ended): "Terminated",
        str(running): "Running",
    }
    schema("oarstat", "jobs").validate(json.loads(said("-J", "-j", f"{ended}-{array + 1}")))
    gantt = json.loads(said("-J", "--gantt", period))
    schema("oarstat", "gantt").validate(gantt)
    bars = gantt["jobs"]
    assert list(bars) == [str(ended), str(running), str(array), str(array + 1)]
    assert bars[str(array)]["start_time"] >= bars[str(running)]["stop_time"]
    assert len(bars[str(array)]["resources"]) == 4
    assert said("--fields", "id,state", "-j", str(ended)).split() == ["id", "state", str(ended), "Terminated"]
    system.run("oarhold", str(array))
    assert re.search(rf"^{DATE}> \[{array}\] HOLD_WAITING_JOB: ", said("-e", "-j", str(array)), re.MULTILINE)


def test_what_a_job_used_is_kept(system: System, jobs: dict[str, int]) -> None:
    shown = json.loads(system.run("oarstat", "-J", "--efficiency", "-j", str(jobs["ended"])).stdout)
    table = system.run("oarstat", "--efficiency", "-j", f"{jobs['ended']}-{jobs['array']}").stdout

    job = shown[str(jobs["ended"])]
    assert 1 <= job["cpu_time"] < 10
    assert 0 < job["cpu_efficiency"] <= 1.1
    assert job["peak_memory_mib"] is None or job["peak_memory_mib"] >= 60
    assert len(table.splitlines()) == 3


def test_accounting_tells_what_a_user_used(system: System, jobs: dict[str, int]) -> None:
    # What is asked for may reach into the next day.
    period = f"{date(-86400)[:10]}, {date(2 * 86400)[:10]}"
    who = system.user.pw_name

    def used() -> int:
        return int(json.loads(system.run("oarstat", "-J", "--accounting", period, "-u").stdout)[who]["USED"])

    wait_until(lambda: used() >= 1, what="the ended job is accounted for")
    table = system.run("oarstat", "--accounting", period).stdout
    asked = re.findall(rf"^{who:<10} {DATE}  {DATE} +(\d+) +\d+$", table, re.MULTILINE)
    assert sum(map(int, asked)) == 600


def test_the_past_of_jobs_and_hosts_can_be_seen(system: System, jobs: dict[str, int]) -> None:
    # A whole second, after all that has happened and before all that will.
    then_s = int(time.time()) + 1
    wait_until(lambda: time.time() > then_s + 1, what="the next second is over")
    then = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(then_s))
    system.run("oardel", str(jobs["running"]))
    system.wait_until_final(jobs["running"])
    system.run("oarnodesetting", "-s", "Absent", "-r", "1", user=pwd.getpwuid(os.geteuid()))

    before = json.loads(system.run("oarstat", "-J", "-s", "--at", then).stdout)
    nodes = json.loads(system.run("oarnodes", "-J", "--at", then).stdout)

    assert before[str(jobs["running"])] == "Running"
    assert nodes["1"]["state"] == "Alive"
    assert [jobs["running"]] in [row["jobs"] for row in nodes.values()]
    assert system.run("oarnodes", "-s", "-r", "1").stdout == "1: Absent\n"


def test_every_view_of_oarnodes_tells_of_real_hosts(system: System, jobs: dict[str, int]) -> None:
    host, running = os.uname().nodename, jobs["running"]
    system.database.execute("INSERT INTO events (type, hosts) VALUES ('FINAUD_ERROR', ARRAY[%s])", (host,))

    def said(*arguments: str) -> str:
        done = system.run("oarnodes", *arguments)
        assert done.stderr == ""
        return done.stdout

    assert said("-l") == f"{host}\n"
    assert said("-s").splitlines()[:2] == [f"{host}:", "    1: Alive"]
    assert f"    {running}:\n        command: sleep 600\n" in said("-j", host)
    assert re.search(rf"^{re.escape(host)} +Alive +1 +1 +4 \[#+\.+\]$", said("-S"), re.MULTILINE)
    assert re.search(rf"^{DATE}\|{re.escape(host)}\|0\| FINAUD_ERROR: $", said("-e"), re.MULTILINE)
    assert said("-e", "2100-01-01") == ""
    assert said("--sql", "resource_id > 3 AND core = 4").startswith(f"network_address: {host}\nresource_id: 4\n")
    assert [json.loads(line)["resource_id"] for line in said("--ndjson").splitlines()] == [1, 2, 3, 4]
    by_line = {
        view: [json.loads(line) for line in said("--ndjson", view).splitlines()]
        for view in ("-l", "-s", "-j", "-S", "-e")
    }
    assert {line["network_address"] for lines in by_line.values() for line in lines} == {host}
    assert by_line["-s"][1] == {"network_address": host, "resource_id": 2, "state": "Alive"}
    assert by_line["-j"][0]["job_id"] == running
    schema("oarnodes", "resources").validate(json.loads(said("-J")))
    assert said("-X", "-r", "2").count('key="resource_id">2<') == 1


def test_a_selection_of_many_is_rehearsed_and_then_done(system: System, jobs: dict[str, int]) -> None:
    array = jobs["array"]

    shown = system.run("oardel", "-u", "--sql", "state = 'Waiting'", "--dry-run").stdout
    assert system.run("oarstat", "-sj", str(array)).stdout == f"{array}: Waiting\n"
    system.run("oarhold", f"{array}-{array + 1}")
    held = system.run("oarstat", "-s", "--array", str(array)).stdout
    done = system.run("oardel", "-u", "--sql", "state = 'Hold'").stdout

    assert shown.splitlines()[-1] == "2 jobs; nothing was done"
    assert held == f"{array}: Hold\n{array + 1}: Hold\n"
    assert done.splitlines()[-1] == f"To be deleted now: {array} {array + 1}"
    assert system.run("oarstat", "-sj", str(array)).stdout == f"{array}: Error\n"


def test_what_the_doctor_finds_follows_its_schema(system: System) -> None:
    done = system.run("oarpy", "doctor", "-J", user=pwd.getpwuid(os.geteuid()), check=False)

    schema("oarpy-doctor", "findings").validate(json.loads(done.stdout))
