"""The commands of administrators that change tables: what they change, and what they refuse."""

import gzip
import json
import os
import re
from contextlib import closing
from pathlib import Path

import pytest

from oarpy.model.states import JobState
from tests.support import rows
from tests.support.accounts import ALICE, account
from tests.support.commands import WORDS, Commands
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until

RULE = '''"""No more than ten."""
from oarpy.actions.admission import Refuse, Submission

def admit(submission: Submission) -> None:
    if submission.elements > 10:
        raise Refuse("ten at most")
'''


def lived(database: TestDatabase, *, hours_ago: int = 0, count: int = 1, holds: str = "{[1,3)}") -> list[int]:
    """Jobs that ran for half an hour and ended with 0 so long ago."""
    with database.engine.begin() as conn:
        jobs = rows.submitted(conn, count)
        for job in jobs:
            rows.brought(conn, [job], JobState.TERMINATED, holds=holds)
    ids = [int(job) for job in jobs]
    database.execute(
        "UPDATE jobs SET submitted_at = now() - make_interval(hours => %s, mins => 40),"
        " started_at = now() - make_interval(hours => %s, mins => 30),"
        " stopped_at = now() - make_interval(hours => %s) WHERE job_id = ANY(%s)",
        (hours_ago, hours_ago, hours_ago, ids),
    )
    return ids


def test_maintenance_keeps_what_was_before(database, commands, two_hosts):
    database.execute(
        "UPDATE resources SET available_upto = '2099-01-01 00:00+00' WHERE resource_id = %s", (two_hosts[0],)
    )

    on = commands.run("oarnodesetting", "-h", "c1", "-m", "on")
    again = commands.run("oarnodesetting", "-h", "c1", "--care", "on")
    during = database.execute("SELECT state, available_upto FROM resources ORDER BY resource_id")
    off = commands.run("oarnodesetting", "-h", "c[1-2]", "--maintenance", "off")

    a, b, c = two_hosts
    assert (on.returncode, again.returncode, off.returncode) == (0, 0, 0)
    assert on.stdout == f"Resources {a}, {b}: maintenance on\n"
    assert during == [("Absent", None), ("Absent", None), ("Alive", None)]
    assert off.stderr == f"# not in maintenance, and left as they are: {c}\n"
    shown = (
        "SELECT state, extract(year FROM available_upto AT TIME ZONE 'UTC')::int FROM resources ORDER BY resource_id"
    )
    assert database.execute(shown) == [("Alive", 2099), ("Alive", None), ("Alive", None)]
    assert database.execute("SELECT count(*) FROM maintenance") == [(0,)]
    assert database.execute("SELECT type, hosts FROM events ORDER BY event_id") == [
        ("MAINTENANCE_ON", ["c1"]), ("MAINTENANCE_ON", ["c1"]), ("MAINTENANCE_OFF", ["c1"]),
    ]  # fmt: skip


def test_a_maintenance_that_was_ended_by_hand_is_forgotten(database, commands, two_hosts):
    commands.run("oarnodesetting", "-h", "c1", "-m", "on")
    commands.run("oarnodesetting", "-h", "c1", "-s", "Alive")
    database.execute("UPDATE resources SET available_upto = '2099-01-01 00:00+00'")

    commands.run("oarnodesetting", "-h", "c1", "-m", "on")

    assert database.execute("SELECT DISTINCT extract(year FROM available_upto)::int FROM maintenance") == [(2099,)]


def test_resources_are_chosen_by_a_file_and_by_a_condition(database, commands, two_hosts, tmp_path):
    (tmp_path / "hosts").write_text("c2\n\n  c1 \n")

    by_file = commands.run("oarnodesetting", "-f", str(tmp_path / "hosts"), "-d", "on")
    by_condition = commands.run("oarnodesetting", "--sql", "network_address = 'c1' AND drain = 'YES'", "-p", "core=4")

    assert by_file.stdout == f"Resources {', '.join(map(str, two_hosts))}: drain on\n"
    assert by_condition.stdout == f"Resources {two_hosts[0]}, {two_hosts[1]}: core = 4\n"


def test_the_highest_value_of_a_property_is_printed(commands, two_hosts):
    nothing = commands.run("oarnodesetting", "--last-property-value", "core")
    commands.run("oarnodesetting", "-r", str(two_hosts[1]), "-p", "core=41")

    found = commands.run("oarnodesetting", "--last-property-value", "core")

    assert (nothing.returncode, nothing.stdout, found.stdout) == (0, "", "41\n")
    assert nothing.stderr == "# no resource has a value of core\n"


def test_several_properties_are_made_and_nothing_is_said(database, commands):
    quiet = commands.run("oarproperty", "-q", "-a", "mem", "--add", "gpu")
    text = commands.run("oarproperty", "-a", "model", "-c", "-a", "rack")
    renamed = commands.run("oarproperty", "-r", "mem,ram", "-r", "gpu,gpus")
    removed = commands.run("oarproperty", "-d", "rack", "-d", "model", "--quiet")

    assert (quiet.stdout, removed.stdout) == ("", "")
    assert text.stdout == "Added property: model\nAdded property: rack\n"
    assert renamed.stdout == "Renamed property: mem to ram\nRenamed property: gpu to gpus\n"
    assert commands.run("oarproperty", "-l").stdout == "core\ncpu\ngpus\nhost\nram\n"


def test_schedulers_of_oar_become_policies(database, commands):
    fifo = commands.run("oarqueue", "--add", "one,5,oar_sched_gantt_with_timesharing")
    fair = commands.run("oarqueue", "--add", "two,6,oar_sched_gantt_with_timesharing_and_fairsharing")
    commands.run("oarqueue", "--change", "one,7,multifactor")

    assert (
        fifo.stderr == "# oar_sched_gantt_with_timesharing means here the policy conservative and the ordering fifo\n"
    )
    assert fair.returncode == 0
    assert database.execute(
        "SELECT queue_name, priority, policy, ordering FROM queues WHERE priority IN (6, 7) ORDER BY 1"
    ) == [("one", 7, "conservative", "multifactor"), ("two", 6, "conservative", "fairshare")]


def test_oarnotify_changes_queues_and_wakes_the_server(database, commands):
    with closing(database.connect()) as listener:
        listener.autocommit = True
        listener.cursor().execute("LISTEN oar_almighty")
        done = commands.run("oarnotify", "--add_queue", "night,3", "-d", "night", "-e", "default", "-l", "Term")
        wait_until(lambda: listener.poll() or listener.notifies, what="almighty is told")

    lines = done.stdout.splitlines()
    assert lines[:3] == ["Add queue night.", "Enable queue default.", "Disable queue night."]
    assert "night" in lines[3:]
    assert commands.run("oarnotify", "-D").stdout == "Disable all queues.\n"
    assert database.execute("SELECT DISTINCT state FROM queues") == [("notActive",)]
    assert commands.run("oarnotify", "-E", "--remove-queue", "night").returncode == 0
    assert database.execute("SELECT count(*) FROM queues WHERE state = 'Active' OR queue_name = 'night'") == [(3,)]


def test_oarnotify_lets_hosts_be_checked(database, commands):
    database.execute("INSERT INTO node_checks (host, begun_at, ended_at, passed) VALUES ('c1', now(), now(), true)")

    done = commands.run("oarnotify", "Finaud")

    assert done.returncode == 0
    assert database.execute("SELECT ended_at < now() - interval '1 year' FROM node_checks") == [(True,)]


def test_only_a_dead_resource_is_removed_and_its_past_stays(database, commands, two_hosts):
    ended = lived(database, holds=f"{{[{two_hosts[0]},{two_hosts[1]})}}")
    alive = commands.run("oarremoveresource", str(two_hosts[0]))
    commands.run("oarnodesetting", "-h", "c1", "-s", "Dead", "-n")

    some = commands.run("oarremoveresource", str(two_hosts[0]), "999", str(two_hosts[1]))

    assert (alive.returncode, alive.stdout) == (2, "")
    assert "is Alive; only a Dead one can be removed" in alive.stderr
    assert some.returncode == 1
    assert some.stdout == f"Resource {two_hosts[0]} removed.\nResource {two_hosts[1]} removed.\n"
    assert some.stderr == "oarremoveresource: there is no resource 999; oarnodes shows those that are\n"
    assert database.execute("SELECT resource_id FROM resources") == [(two_hosts[2],)]
    assert database.execute("SELECT state FROM jobs WHERE job_id = ANY(%s)", (ended,)) == [("Terminated",)]
    assert database.execute("SELECT count(*) > 0 FROM resource_logs WHERE resource_id = %s", (two_hosts[0],)) == [
        (True,)
    ]


def test_rules_are_made_shown_changed_and_deleted(database, commands, tmp_path):
    (tmp_path / "ten.py").write_text(RULE)

    made = commands.run("oaradmissionrules", "-n", "-r", str(tmp_path / "ten.py"), "-P", "45")
    shown = commands.run("oaradmissionrules", "-s", "1001")
    whole = commands.run("oaradmissionrules", "-s", "1001", "-H")
    changed = commands.run("oaradmissionrules", "-m", "1001", "-N", "-P", "5")
    every = commands.run("oaradmissionrules", "-S", "-I")
    disabled = commands.run("oaradmissionrules", "-S", "-N")
    deleted = commands.run("oaradmissionrules", "-d", "1001")

    assert made.stdout == "New admission rule created: #1001\n"
    assert shown.stdout == '--- (45) RULE #1001\n"""No more than ten."""\n---\n'
    assert whole.stdout == RULE
    assert changed.stdout == "Admission rule modified: #1001\n"
    assert every.stdout.splitlines()[:2] == ["1001", "1"]
    assert disabled.stdout.startswith("--- (DISABLED/5) RULE #1001\n")
    assert deleted.stdout == "Admission rule deleted: #1001\n"
    assert database.execute("SELECT count(*) FROM admission_rules") == [(0,)]


def test_rules_in_files_have_numbers_that_change_nothing(database, commands, tmp_path):
    (tmp_path / "ten.py").write_text(RULE)
    commands.run("oaradmissionrules", "-n", "-r", str(tmp_path / "ten.py"), "-P", "15")

    every = commands.run("oaradmissionrules", "-S")
    numbers = commands.run("oaradmissionrules", "-S", "-I").stdout.split()
    second = commands.run("oaradmissionrules", "-s", "2", "-H")
    named = commands.run("oaradmissionrules", "-s", "20_no_system_users.py", "-H")
    refused = [commands.run("oaradmissionrules", *words) for words in (["-d", "2"], ["-m", "#2", "-N"])]
    database.execute("INSERT INTO admission_rules (id, name, rule) VALUES (2, 'small', %s)", (RULE,))
    taken = commands.run("oaradmissionrules", "-s", "2", "-H")

    shown = re.findall(r"^--- \(\d+\) RULE #(\d+)(.*)$", every.stdout, re.MULTILINE)
    assert shown[:3] == [("1", " 10_default_queue.py"), ("1001", ""), ("2", " 20_no_system_users.py")]
    assert numbers == [number for number, _ in shown]
    assert second.stdout == named.stdout != RULE
    for done in refused:
        assert done.returncode == 1
        assert "is the file 20_no_system_users.py; edit or remove it in " in done.stderr
    assert taken.stdout == RULE


def test_a_rule_is_edited_and_written_to_a_file(database, commands, tmp_path):
    (tmp_path / "ten.py").write_text(RULE)
    commands.run("oaradmissionrules", "-n", "-r", str(tmp_path / "ten.py"))

    edited = commands.run("oaradmissionrules", "-m", "1001", "-e", "sed -i s/10/20/")
    written = commands.run("oaradmissionrules", "-s", "1001", "-w", str(tmp_path / "rule_%%.py"))
    again = commands.run("oaradmissionrules", "-s", "1001", "-w", str(tmp_path / "rule_%%.py"))
    elsewhere = commands.run("oaradmissionrules", "-s", "10_default_queue.py", "-w")

    assert edited.returncode == 0
    assert written.stdout == f"Admission rule #1001 written to {tmp_path}/rule_1001.py\n"
    assert (tmp_path / "rule_1001.py").read_text() == RULE.replace("10", "20")
    assert again.returncode == 1
    path = Path(elsewhere.stdout.split()[-1])
    assert "def admit" in path.read_text()
    path.unlink()


@pytest.mark.parametrize(
    ("text", "what"),
    [("$priority = 0;", "not Python"), ("def other(submission): pass", "no function admit"), ("def admit(", "line 1")],
)
def test_what_could_not_be_loaded_does_not_become_a_rule(unchanged, tmp_path, text, what):
    (tmp_path / "rule.py").write_text(text)

    done = Commands(unchanged, str(tmp_path)).run("oaradmissionrules", "-n", "-r", str(tmp_path / "rule.py"))

    assert (done.returncode, done.stdout) == (18, "")
    assert what in done.stderr
    assert unchanged.execute("SELECT count(*) FROM admission_rules") == [(0,)]


def test_sums_are_made_forgotten_and_made_again(database, commands, two_hosts):
    lived(database, hours_ago=100, holds=f"{{[{two_hosts[0]},{two_hosts[1] + 1})}}")

    first = commands.run("oaraccounting")
    sums = database.execute("SELECT consumption_type, sum(consumption) FROM accounting GROUP BY 1 ORDER BY 1")
    second = commands.run("oaraccounting")
    database.execute("UPDATE accounting SET consumption = 1")
    anew = commands.run("oaraccounting", "--reinitialize")
    again = database.execute("SELECT consumption_type, sum(consumption) FROM accounting GROUP BY 1 ORDER BY 1")
    commands.run("oaraccounting", "--delete-before", "3600")

    assert (first.stdout, second.stdout) == ("1 job(s) accounted for\n", "0 job(s) accounted for\n")
    assert sums == [("ASKED", 2 * 3600), ("USED", 2 * 1800)]
    assert (anew.stdout, again) == ("1 job(s) accounted for\n", sums)
    assert database.execute("SELECT count(*) FROM accounting") == [(0,)]


def test_sums_that_could_not_be_made_again_are_kept(database, commands, two_hosts):
    lived(database, hours_ago=100)
    database.execute(
        "INSERT INTO accounting VALUES ('2020-01-01', '2020-01-02', 'bob', 'default', 'default', 'USED', 77)"
    )

    done = commands.run("oaraccounting", "--reinitialize")

    assert done.returncode == 1
    assert "no longer in the tables" in done.stderr
    assert database.execute("SELECT consumption FROM accounting") == [(77,)]


def test_hosts_that_are_alike_are_added_at_once(database, commands):
    commands.run("oarnodesetting", "-a", "-h", "old", "-p", "cpu=6", "-p", "core=9")

    done = commands.run("oar_resources_add", "-x", "-a", "/host=n{01-02}/cpu={2}/core={2}", "-A", "mem=64 rack=r1")

    assert done.stdout == "Added property: mem\nAdded property: rack\n8 resource(s) of 2 host(s) added\n"
    assert database.execute(
        "SELECT network_address, host, array_agg(DISTINCT cpu), array_agg(core ORDER BY core), max(mem), max(rack)"
        " FROM resources WHERE host <> 'old' GROUP BY 1, 2 ORDER BY 1"
    ) == [("n01", "n01", [7, 8], [10, 11, 12, 13], 64, "r1"), ("n02", "n02", [9, 10], [14, 15, 16, 17], 64, "r1")]


def test_the_commands_that_are_written_add_the_same(database, commands, tmp_path):
    script = tmp_path / "add.sh"
    commands.run("oar_resources_add", "-H", "1", "-C", "2", "-c", "1", "-t", "2", "--cputopo", "RR", "-o", str(script))
    lines = script.read_text().splitlines()
    auto = commands.run("oar_resources_add", "-a", "-H", "1", "-g", "1", "--gpudevice-prefix", "/dev/nvidia")

    assert os.access(script, os.X_OK)
    assert lines == [
        "#!/bin/sh",
        "set -e",
        "oarnodesetting -a -h node-1 -p host=node-1 -p cpu=0 -p core=0 -p cpuset=0,2",
        "oarnodesetting -a -h node-1 -p host=node-1 -p cpu=1 -p core=1 -p cpuset=1,3",
    ]
    assert auto.stdout.splitlines()[:2] == ["oarproperty -a gpu || true", "oarproperty -a gpudevice -c || true"]
    assert "-p gpudevice=/dev/nvidia0" in auto.stdout


def test_this_machine_tells_what_it_has(database, commands, tmp_path):
    host = os.uname().nodename
    (tmp_path / "hosts").write_text(f"# mine\n{host}\n")

    shown = commands.run("oar_resources_init", "-H", str(tmp_path / "hosts"), "-n", "/opt/oarnodesetting")
    added = commands.run("oar_resources_init", "-x", "-y", str(tmp_path / "hosts"))

    cores = shown.stdout.count(f"/opt/oarnodesetting -a -h {host} ")
    assert cores >= 1
    assert added.stdout == f"Added property: mem\n{cores} resource(s) of 1 host(s) added\n"
    assert database.execute("SELECT count(*), count(DISTINCT core), min(mem) > 100 FROM resources") == [
        (cores, cores, True)
    ]


def test_a_host_that_cannot_be_asked_is_named_and_nothing_is_added(database, commands, tmp_path):
    (tmp_path / "hosts").write_text("c77\n")

    done = commands.run("oar_resources_init", "-x", "-y", "-e", "false", str(tmp_path / "hosts"))

    assert done.returncode == 1
    assert done.stderr.startswith("oar_resources_init: host c77: ")
    assert database.execute("SELECT count(*) FROM resources") == [(0,)]


@pytest.fixture
def phoenix(commands: Commands, tmp_path: Path) -> Path:
    """The file to which the commands of the section [phoenix] write what they were given."""
    (tmp_path / "reboot").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/done\n[ "$2" != c2 ] || exit 3\n')
    (tmp_path / "reboot").chmod(0o755)
    (tmp_path / "oarpy.toml").write_text(
        f'[phoenix]\nsoft_command = "{tmp_path}/reboot soft {{NODENAME}}"\n'
        f'hard_command = "{tmp_path}/reboot hard {{NODENAME}}"\n'
    )
    return tmp_path / "done"


def test_suspected_hosts_are_rebooted_once_each_way(database, commands, two_hosts, phoenix):
    database.execute("UPDATE resources SET state = 'Suspected' WHERE network_address = 'c1'")

    rehearsed = commands.run("oar_phoenix", "--dry-run")
    first = commands.run("oar_phoenix")
    second = commands.run("oar_phoenix")
    database.execute("UPDATE resources SET state_since = now() - interval '1 h'")
    database.execute("UPDATE events SET date = now() - interval '10 min' WHERE type = 'PHOENIX_SOFT_REBOOT'")
    third = commands.run("oar_phoenix")
    fourth = commands.run("oar_phoenix")

    assert rehearsed.stdout == "host c1: would be rebooted\n"
    assert (first.stdout, second.stdout) == ("host c1: rebooted\n", "")
    assert third.stdout == "host c1: rebooted the hard way\n"
    assert (fourth.stdout, "a person must look" in fourth.stderr) == ("", True)
    assert phoenix.read_text() == "soft c1\nhard c1\n"


def test_a_host_that_came_back_is_rebooted_once_more_when_it_fails_again(database, commands, two_hosts, phoenix):
    for state in ("Suspected", "Alive", "Suspected"):
        database.execute("UPDATE resources SET state = %s WHERE network_address = 'c1'", (state,))
        commands.run("oar_phoenix")

    assert phoenix.read_text() == "soft c1\nsoft c1\n"


def test_only_so_many_hosts_are_on_their_way_at_once(database, commands, two_hosts, phoenix, tmp_path):
    with (tmp_path / "oarpy.toml").open("a") as settings:
        settings.write("at_once = 2\nin_progress = 3\n")
    with database.engine.begin() as conn:
        for host in ("d1", "d2", "d3", "d4"):
            rows.resources(conn, host, state="Suspected")

    counts = [len(commands.run("oar_phoenix").stdout.splitlines()) for _ in range(3)]

    assert counts == [2, 1, 0]


def test_a_host_with_jobs_is_left_alone_and_a_failure_is_told(database, commands, two_hosts, phoenix):
    with database.engine.begin() as conn:
        job = rows.submitted(conn)
        rows.brought(conn, job, JobState.RUNNING, holds=f"{{[{two_hosts[0]},{two_hosts[1]})}}")
    database.execute("UPDATE resources SET state = 'Suspected'")

    done = commands.run("oar_phoenix")

    assert (done.returncode, phoenix.read_text()) == (1, "soft c2\n")
    assert "# host c1: left alone, 1 job(s) are on it\n" in done.stderr
    assert re.search(r"oar_phoenix: host c2: \S+ ended with 3\n", done.stderr)
    assert database.execute("SELECT type, hosts FROM events ORDER BY event_id") == [
        ("PHOENIX_SOFT_REBOOT", ["c2"]), ("PHOENIX_ERROR", ["c2"]),
    ]  # fmt: skip


def test_without_a_command_nothing_is_rebooted(commands):
    done = commands.run("oar_phoenix")

    assert done.returncode == 78


def test_old_jobs_move_into_a_file(database, commands, two_hosts, tmp_path):
    old = lived(database, hours_ago=72, count=5)
    needed = lived(database, hours_ago=72)
    young = lived(database)
    commands.run("oaraccounting")
    with database.engine.begin() as conn:
        waiting = rows.submitted(conn)
    database.execute(
        "INSERT INTO job_dependencies (job_id, job_id_required) VALUES (%s, %s)", (int(waiting[0]), needed[0])
    )

    counted = commands.run("oararchive", "--older-than", "2", "--dry-run")
    kept = commands.run("oararchive", "--older-than", "2", "--to", str(tmp_path / "kept.gz"), "--keep")
    moved = commands.run("oararchive", "--older-than", "2", "--to", str(tmp_path / "old.gz"), "--chunk", "2")
    again = commands.run("oararchive", "--older-than", "2", "--to", str(tmp_path / "old.gz"))

    assert counted.stdout == "5 job(s)\n"
    assert kept.returncode == 0
    assert moved.stdout == f"5 job(s) moved to {tmp_path}/old.gz\n"
    assert "exists already" in again.stderr
    with gzip.open(tmp_path / "old.gz", "rt") as file:
        told = [json.loads(line) for line in file]
    assert [each["job"]["job_id"] for each in told] == old
    assert [state["job_state"] for state in told[0]["states"]][-1] == "Terminated"
    assert told[0]["request"]["initial_request"] == "oarsub true"
    assert told[0]["allocations"][0]["resources"] == "{[1,3)}"
    left = [job_id for (job_id,) in database.execute("SELECT job_id FROM jobs ORDER BY job_id")]
    assert left == sorted([*needed, *young, *map(int, waiting)])
    assert database.execute("SELECT count(*) FROM job_requests") == [(3,)]
    assert database.execute("SELECT count(*) > 0 FROM accounting") == [(True,)]


def test_a_trace_is_what_the_simulator_reads(database, commands, two_hosts, tmp_path):
    ids = lived(database, hours_ago=3, count=2, holds=f"{{[{two_hosts[0]},{two_hosts[1] + 1})}}")
    with database.engine.begin() as conn:
        rows.submitted(conn)
    database.execute("UPDATE jobs SET cpu_used = '50 min', cpu_hosts = 2 WHERE job_id = %s", (ids[0],))
    trace = tmp_path / "out.swf"

    written = commands.run("oar2trace", "-f", str(trace), "-p", "--metadata-file", str(tmp_path / "names.json"))
    simulated = commands.run("oarpy", "simulate", str(trace), "-J")

    lines = [line.split() for line in trace.read_text().splitlines() if not line.startswith(";")]
    assert written.stdout == "".join(f"{' '.join(line)}\n" for line in lines)
    assert [len(line) for line in lines] == [18, 18]
    assert [line[:5] + line[7:9] + line[10:11] for line in lines] == [
        [str(job_id), "0", "600", "1800", "2", "2", "3600", "1"] for job_id in ids
    ]
    assert [line[5] for line in lines] == ["1500", "-1"]
    assert "; MaxProcs: 3\n" in trace.read_text()
    assert json.loads((tmp_path / "names.json").read_text())["user"] == {"alice": 1}
    found = json.loads(simulated.stdout)
    assert (found["jobs"], found["cores"], found["left_out"]) == (2, 3, {})


@pytest.mark.parametrize(
    ("command", "arguments", "status"),
    [
        ("oarprint", ["host"], 1),
        ("oarprint", ["-l", "-f", "/nowhere"], 1),
        ("oarprint", ["-f", "/dev/null"], 1),
        ("oarnotify", ["Nonsense"], 69),
        ("oarnotify", ["-e", "nonsense"], 1),
        ("oarnotify", ["--add-queue", "a b,3"], 8),
        ("oarremoveresource", [], 1),
        ("oarremoveresource", ["x"], 1),
        ("oaradmissionrules", [], 1),
        ("oaradmissionrules", ["-S", "-d", "1"], 1),
        ("oaradmissionrules", ["-s", "77"], 1),
        ("oaradmissionrules", ["-d", "77"], 1),
        ("oaradmissionrules", ["-d", "10_default_queue.py"], 1),
        ("oaradmissionrules", ["-d", "1"], 1),
        ("oaradmissionrules", ["-m", "1", "-N"], 1),
        ("oaradmissionrules", ["-m", "77"], 1),
        ("oaradmissionrules", ["-m", "77", "-P", "3"], 1),
        ("oaradmissionrules", ["-n", "-r", "/nowhere"], 1),
        ("oaradmissionrules", ["-n", "-e", "false"], 1),
        ("oaradmissionrules", ["-n", "-e", "/nowhere/editor"], 1),
        ("oaradmissionrules", ["-S", "-Y", "-N"], 1),
        ("oaradmissionrules", ["-d", "1", "-f"], 1),
        ("oaraccounting", ["--reinitialize", "--delete-before", "1"], 1),
        ("oaraccounting", ["--delete-before", "-1"], 1),
        ("oar_resources_add", [], 1),
        ("oar_resources_add", ["-H", "0"], 1),
        ("oar_resources_add", ["/host=c{1-2}", "-H", "2"], 1),
        ("oar_resources_add", ["/host=c{1-2}", "-C", "2"], 1),
        ("oar_resources_add", ["/cpu={2}"], 18),
        ("oar_resources_add", ["/host=c{2-1}"], 18),
        ("oar_resources_add", ["/host=c{1,1}"], 18),
        ("oar_resources_add", ["/host=c{1}{2}"], 18),
        ("oar_resources_add", ["/host=c{1}/core={999999999}"], 18),
        ("oar_resources_add", ["/host=c{999999999}"], 18),
        ("oar_resources_add", ["/host=c{1}/core={0}"], 18),
        ("oar_resources_add", ["/host=c{1}/core=1/core=2"], 18),
        ("oar_resources_add", ["-H", "1", "-A", "mem"], 1),
        ("oar_resources_add", ["-H", "1", "-c", "3", "-g", "2"], 1),
        ("oar_resources_add", ["-H", "1", "--cputopo", "1,x"], 1),
        ("oar_resources_add", ["-H", "1", "--cputopo", "1,2"], 1),
        ("oar_resources_add", ["-H", "1", "-x", "-Y"], 1),
        ("oar_resources_add", ["-x", "/host=-oProxyCommand"], 8),
        ("oar_resources_init", [], 1),
        ("oar_resources_init", ["/nowhere"], 1),
        ("oar_resources_init", ["/dev/null"], 1),
        ("oar_resources_init", ["-c", "/etc/oar/oar.conf", "/dev/null"], 69),
        ("oar_resources_init", ["-x", "-o", "x", "/dev/null"], 1),
        ("oar_database", [], 1),
        ("oar_database", ["--reset"], 1),
        ("oar_database", ["--drop", "--create"], 1),
        ("oar_database", ["--check", "-y"], 1),
        ("oar_database", ["--create"], 1),
        ("oar_database", ["--create", "--db-is-local"], 69),
        ("oar_phoenix", [], 78),
        ("oararchive", [], 1),
        ("oararchive", ["--older-than", "0", "--to", "x"], 1),
        ("oararchive", ["--older-than", "3"], 1),
        ("oararchive", ["--older-than", "3", "--to", "/nowhere/x"], 1),
        ("oar2trace", [], 1),
        ("oar2trace", ["-m", "owf"], 69),
        ("oar2trace", ["-b", "5", "-e", "4"], 1),
    ],
)
def test_bad_input_is_one_sentence_and_changes_nothing(unchanged, tmp_path, command, arguments, status):
    before = unchanged.execute("SELECT * FROM resources ORDER BY resource_id")

    done = Commands(unchanged, str(tmp_path)).run(command, *arguments)

    name = command.replace("oar_database", "oar-database")
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert re.fullmatch(rf"{name}: {WORDS}\n", done.stderr), done.stderr
    assert unchanged.execute("SELECT * FROM resources ORDER BY resource_id") == before


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to act as somebody else")
@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("oarnotify", ["-D"]),
        ("oarremoveresource", ["1"]),
        ("oaradmissionrules", ["-S"]),
        ("oaraccounting", []),
        ("oar_resources_add", ["-x", "/host=c{1}"]),
        ("oararchive", ["--older-than", "1", "--dry-run"]),
    ],
)
def test_only_administrators_may(database, commands, command, arguments):
    done = commands.run(command, *arguments, user=account(ALICE), cwd="/")

    assert (done.returncode, done.stdout) == (8, "")
    assert done.stderr == f"{command}: only root and the owner of the instance may do this\n"


def test_the_schema_is_checked_emptied_and_removed(database, commands, two_hosts):
    checked = commands.run("oar_database", "--check")
    readable = commands.run("oar_database", "--fix-ro-user-priv")
    emptied = commands.run("oar_database", "--reset", "-y")
    left = database.execute("SELECT count(*) FROM resources")
    removed = commands.run("oar_database", "--drop", "--force-yes")
    missing = commands.run("oar_database", "--check")
    made = commands.run("oar_database", "--setup")
    upgraded = commands.run("oar_database", "--upgrade")

    assert checked.stdout.startswith("schema     0")
    assert readable.returncode == 0
    assert (emptied.stdout, left) == ("schema     removed\nschema     made\n", [(0,)]), emptied.stderr
    assert removed.stdout == "schema     removed\n"
    assert (missing.returncode, missing.stdout) == (78, "")
    assert (made.stdout, upgraded.stdout) == ("schema     upgraded\n", "schema     already the newest\n")
