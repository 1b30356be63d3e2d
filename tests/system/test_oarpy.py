"""The command ``oarpy``, on instances with a PostgreSQL of their own."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from oarpy.almighty import bringing_up, preparation
from oarpy.drivers import postgresql
from oarpy.drivers.cores import usable_cores
from oarpy.drivers.postgresql import Cluster
from oarpy.drivers.processes import is_alive
from oarpy.instance import Instance
from oarpy.settings import Settings
from tests.support import accounts
from tests.support.place import a_place
from tests.support.waiting import wait_until

OARPY = Path(sys.executable).parent / "oarpy"


@pytest.fixture
def home() -> Iterator[Path]:
    """A place for an instance, which is stopped afterwards whatever became of it."""
    with a_place() as root:
        yield root / "home"
        oarpy(root / "home", "down", check=False)


def oarpy(home: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [OARPY, *words],
        env={**os.environ, "OARPY_HOME": str(home)},
        cwd="/",
        capture_output=True,
        text=True,
        check=check,
        stdin=subprocess.DEVNULL,
    )


def sql(home: Path, statement: str, role: str = "oar") -> list[tuple[object, ...]]:
    with closing(psycopg2.connect(**Instance(str(home)).dsn(role))) as conn, conn.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


def test_up_makes_an_instance_and_finds_it_when_run_again(home):
    made = oarpy(home, "up").stdout
    leader = json.loads(oarpy(home, "status", "--json").stdout)["leader"]["pid"]

    found = oarpy(home, "up").stdout

    assert f"instance   {home} (new)" in made
    assert f"resources  the {len(usable_cores())} core(s) of {os.uname().nodename} added" in made
    assert found.splitlines() == [
        f"instance   {home}",
        f"database   {home}/run/postgresql, already running",
        f"almighty   pid {leader}, already running",
    ]


def test_the_cores_of_the_machine_are_resources_that_can_be_asked_for_by_name(home):
    bringing_up.make_home(Instance(str(home)))
    bringing_up.prepare(Instance(str(home)), Settings())

    rows = sql(home, "SELECT network_address, host, cpu, core, cpuset, state FROM resources ORDER BY resource_id")

    host = os.uname().nodename
    assert rows == [(host, host, core.cpu, core.core, core.cpuset, "Alive") for core in usable_cores()]


def test_cores_that_an_admin_removed_do_not_come_back(home):
    instance = Instance(str(home))
    bringing_up.make_home(instance)
    bringing_up.prepare(instance, Settings())
    with closing(psycopg2.connect(**instance.dsn("oar"))) as conn, conn, conn.cursor() as cursor:
        cursor.execute("UPDATE resources SET state = 'Dead'; DELETE FROM resources")

    again = bringing_up.prepare(instance, Settings())

    assert (again.server_started, again.schema_changed, again.cores_added) == (False, False, 0)
    assert sql(home, "SELECT count(*) FROM resources") == [(0,)]


def test_status_names_every_process_of_the_instance(home):
    oarpy(home, "up")

    told = json.loads(oarpy(home, "status", "--json").stdout)["processes"]

    pids = {process["name"]: process["pid"] for process in told}
    # There is no other host.
    assert pids.pop("finaud") is None
    assert "process    finaud, at rest on" in oarpy(home, "status").stdout
    comm = {name: Path(f"/proc/{pid}/comm").read_text().strip() for name, pid in pids.items()}
    assert comm.pop("postgresql") == "postgres"
    assert comm.pop("keeper").startswith("python")
    ours = ("almighty", "supervisor", "appendice", "scheduler", "runner", "judas")
    assert comm == {name: f"oar-{name}" for name in ours}


def test_down_stops_all_of_it_and_up_brings_it_back(home):
    oarpy(home, "up")
    first = json.loads(oarpy(home, "status", "--json").stdout)

    stopped = oarpy(home, "down").stdout.splitlines()
    left = [process["name"] for process in first["processes"] if process["pid"] and is_alive(process["pid"])]
    oarpy(home, "up")

    assert stopped == ["almighty   stopped; jobs run on", "database   stopped"]
    assert left == []
    assert json.loads(oarpy(home, "status", "--json").stdout)["leader"]["epoch"] > first["leader"]["epoch"]


def test_an_instance_is_stopped_by_any_name_of_its_directory(home):
    oarpy(home, "up")
    started = json.loads(oarpy(home, "status", "--json").stdout)["processes"]
    link = home.parent / "link"
    link.symlink_to(home)

    oarpy(link, "down")

    assert [process["name"] for process in started if process["pid"] and is_alive(process["pid"])] == []


def test_instances_live_side_by_side(home):
    other = home.parent / "other"
    for place in (home, other):
        oarpy(place, "up")

    oarpy(other, "down")

    assert json.loads(oarpy(home, "status", "--json").stdout)["leader"] is not None
    assert oarpy(other, "status", check=False).returncode == 75


def test_down_of_what_does_not_run_says_so(home):
    bringing_up.make_home(Instance(str(home)))

    assert oarpy(home, "down").stdout.splitlines() == ["almighty   was not running", "database   was not running"]


@pytest.mark.parametrize("broken", ["[kill]\nsofd = 1\n", "[kill\n"])
def test_down_stops_all_of_it_though_the_settings_are_broken_by_now(home, broken):
    oarpy(home, "up")
    (home / "oarpy.toml").write_text(broken)

    done = oarpy(home, "down", check=False)

    assert (done.returncode, done.stdout) == (0, "almighty   stopped; jobs run on\ndatabase   stopped\n")
    assert done.stderr.startswith(f"# {home}/oarpy.toml: ")
    assert done.stderr.endswith("; oarpy up refuses to start until this is mended\n")
    assert not (home / "pg" / "postmaster.pid").exists()


def test_a_restored_instance_is_another_one_and_goes_on_far_ahead(home):
    oarpy(home, "up")
    before = sql(home, "SELECT uuid::text, epoch FROM instance, leadership")[0]
    refused = oarpy(home, "restore", check=False)
    oarpy(home, "down")

    done = oarpy(home, "restore").stdout.splitlines()
    oarpy(home, "up")

    uuid, epoch = sql(home, "SELECT uuid::text, epoch FROM instance, leadership")[0]
    assert refused.returncode == 1
    assert refused.stderr == (
        "oarpy: almighty runs on this database; stop it first, and every other one that stands by\n"
    )
    assert done == [f"instance   {uuid} from now on", "jobs       the next one is 10000002 or later"]
    assert uuid != before[0]
    assert epoch > 10_000_000 + before[1]


def test_an_instance_begun_and_never_finished_is_finished(home):
    instance = Instance(str(home))
    bringing_up.make_home(instance)
    os.unlink(instance.settings_file)
    os.mkdir(home / "pg.new-dead")
    preparation.start_database(instance, Settings())

    bringing_up.make_home(instance)
    done = bringing_up.prepare(instance, Settings())

    assert (done.server_started, done.schema_changed) == (False, True)
    assert os.path.exists(instance.settings_file)


def test_the_settings_of_a_new_instance_explain_everything_and_change_nothing(home):
    instance = Instance(str(home))

    bringing_up.make_home(instance)

    text = Path(instance.settings_file).read_text()
    assert "#soft = " in text
    assert [line for line in text.splitlines() if line and not line.startswith(("#", "["))] == []


def test_what_an_admin_wrote_is_left_alone(home):
    instance = Instance(str(home))
    bringing_up.make_home(instance)
    Path(instance.settings_file).write_text('[log]\nlevel = "debug"\n')
    shutil.rmtree(instance.admission_rules_dir)
    os.mkdir(instance.admission_rules_dir)

    bringing_up.make_home(instance)

    assert Path(instance.settings_file).read_text() == '[log]\nlevel = "debug"\n'
    assert os.listdir(instance.admission_rules_dir) == []


def test_wrong_settings_stop_the_start_with_their_place(home):
    bringing_up.make_home(Instance(str(home)))
    (home / "oarpy.toml").write_text("[kill]\nsofd = 1\n")

    refused = oarpy(home, "up", check=False)

    assert refused.returncode == 78
    assert refused.stderr == f"oarpy: {home}/oarpy.toml: sofd is not a setting in [kill]; did you mean soft?\n"


def test_nobody_starts_another_account_s_instance(home):
    home.mkdir()
    stranger = accounts.account(accounts.ALICE)
    os.chown(home, stranger.pw_uid, stranger.pw_gid)

    refused = oarpy(home, "up", check=False)

    assert refused.returncode == 8
    assert refused.stderr == f"oarpy: {home} belongs to another account; only that one may do this\n"


@pytest.mark.parametrize("word", ["status", "doctor"])
def test_only_its_owner_and_root_look_into_a_private_instance(home, word):
    home.parent.chmod(0o755)
    home.mkdir(mode=0o755)
    Path(Instance(str(home)).data_dir).mkdir(mode=0o700)

    refused = as_stranger(home, "oarpy", word)

    assert refused.stderr == "oarpy: only root and the owner of the instance may do this\n"
    assert refused.returncode == 8


@pytest.mark.parametrize(
    "words", [("oarpy", "up"), ("oarpy", "status"), ("oarpy", "quotas", "show"), ("oarstat",), ("oarsub", "true")]
)
@pytest.mark.parametrize("inside", [True, False])
def test_an_instance_out_of_reach_is_told_in_one_sentence(home, words, inside):
    home.parent.chmod(0o755)
    home.mkdir(mode=0o700)

    refused = as_stranger(home / "deeper" if inside else home, *words)

    assert refused.returncode in (8, 78)
    assert refused.stderr.startswith(f"{words[0]}: {home}")
    assert len(refused.stderr.splitlines()) == 1


def as_stranger(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    stranger = accounts.account(accounts.ALICE)
    command = [str(OARPY.parent / words[0]), *words[1:]]
    environment = {**accounts.environment_of(stranger, os.environ), "OARPY_HOME": str(home)}
    return subprocess.run(
        accounts.switched(stranger, command), env=environment, cwd="/", capture_output=True, text=True, check=False
    )


def test_doctor_finds_what_does_not_run(home):
    bringing_up.make_home(Instance(str(home)))

    said = oarpy(home, "doctor", "--json", check=False)

    broken = {finding["subject"] for finding in json.loads(said.stdout) if finding["level"] == "broken"}
    assert said.returncode == 1
    assert broken == {"PostgreSQL", "database"}


def test_doctor_knows_whom_the_database_takes_one_for(home):
    instance = Instance(str(home))
    bringing_up.make_home(instance)
    bringing_up.prepare(instance, Settings())

    said = oarpy(home, "doctor", check=False).stdout

    me = pwd.getpwuid(os.geteuid()).pw_name
    assert f"you are known to the database as peer:{me}" in said
    assert "broken   almighty       does not run on this machine: oarpy up starts it" in said


def test_doctor_finds_numbers_that_several_hosts_share(home):
    instance = Instance(str(home))
    bringing_up.make_home(instance)
    bringing_up.prepare(instance, Settings())
    with closing(psycopg2.connect(**instance.dsn("oar"))) as conn, conn, conn.cursor() as cursor:
        cursor.execute("INSERT INTO resources (network_address, cpu, core)"
                       " SELECT host, 70 + (host = 'c2')::int, core"
                       " FROM unnest('{c1,c2}'::text[]) AS host, generate_series(100, 102) AS core")  # fmt: skip

    said = oarpy(home, "doctor", check=False).stdout

    assert (
        "weak     resources      core 100 is on 2 hosts, 2 more likewise: /core=1 takes both; "
        "number cores uniquely, or ask for /host=1/core=1\n" in said
    )
    assert "cpu" not in [line.split()[2] for line in said.splitlines()]


def test_doctor_says_when_there_is_no_instance(home):
    said = oarpy(home, "doctor", check=False)

    assert (said.returncode, said.stdout) == (
        1,
        f"broken   instance       {home} does not exist: oarpy up makes it\n",
    )


def test_a_site_s_own_server_is_made_ready_by_what_bootstrap_prints(home, postgres):
    site = Cluster(
        data=postgres.cluster.data,
        sockets=postgres.cluster.sockets,
        log=postgres.cluster.log,
        account=postgres.cluster.account,
        serves_everybody=True,
    )
    printed = oarpy(home, "db", "bootstrap").stdout
    before, after = printed.split("\\connect oar\n")
    roles = before[: before.index("SELECT 'CREATE DATABASE oar OWNER oar'")]
    url = f"host={site.sockets} dbname=site"

    with closing(postgresql.connect(site)) as conn, conn.cursor() as cursor:
        cursor.execute(roles)
        cursor.execute("CREATE DATABASE site OWNER oar")
    with closing(postgresql.connect(site, "site")) as conn, conn.cursor() as cursor:
        cursor.execute(after)
    try:
        instance = Instance(str(home), database_url=url)
        bringing_up.make_home(instance)
        prepared = bringing_up.prepare(instance, Settings())
    finally:
        with closing(postgresql.connect(site)) as conn, conn.cursor() as cursor:
            cursor.execute(
                "SELECT unnest(setconfig) FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase"
                " WHERE datname = 'site' AND setrole = 0"
            )
            defaults = {setting for (setting,) in cursor.fetchall()}
            cursor.execute("DROP DATABASE site WITH (FORCE)")

    assert prepared == bringing_up.Prepared(server_started=False, schema_changed=True, cores_added=0)
    assert {"jit=off", "search_path=oar, public"} <= defaults


def test_the_owner_of_an_instance_of_their_own_administers_it():
    owner = accounts.account(accounts.ALICE)
    with a_place() as root:
        os.chown(root, owner.pw_uid, owner.pw_gid)
        environment = {**accounts.environment_of(owner, os.environ), "OARPY_HOME": str(root / "home")}

        def run(*words: str) -> subprocess.CompletedProcess[str]:
            command = accounts.switched(owner, [str(OARPY.parent / words[0]), *words[1:]])
            return subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=True)

        def state() -> object:
            return sql(root / "home", "SELECT state::text FROM oar.jobs")[0][0]

        run("oarpy", "up")
        try:
            job = run("oarsub", "-l", "resource_id=1,walltime=1", "sleep 600").stdout.split("=")[-1].strip()
            wait_until(lambda: state() == "Running", timeout_s=30, what="the job runs")

            assert "is accepted" in run("oarwalltime", job, "+1", "--delay-next-jobs").stdout
            run("oarhold", "-r", job)
            wait_until(lambda: state() == "Suspended", timeout_s=30, what="the job is suspended")
        finally:
            run("oarpy", "down")
