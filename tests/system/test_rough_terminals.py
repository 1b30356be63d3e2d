"""Interactive jobs on other hosts, treated roughly."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator

import pytest

from tests.support.cluster import Cluster, running_cluster
from tests.support.postgres import TestDatabase
from tests.support.typist import Typist
from tests.support.waiting import wait_until

ON_C2 = ("-p", "host = 'c2'", "-l", "/core=1")
#: All bytes there are, and how often; a terminal lets them through when it is raw.
BLOCK = bytes(range(256)) * 256
BLOCKS = 300
BINARY = f"import sys; block = bytes(range(256)) * 256; [sys.stdout.buffer.write(block) for _ in range({BLOCKS})]"
MORE = """
INSERT INTO resources (network_address, host, cpu, core, cpuset)
SELECT 'c' || h, 'c' || h, h, 100 * h + n, '0' FROM generate_series(1, 3) AS h, generate_series(0, 3) AS n
"""


@pytest.fixture
def cluster(database: TestDatabase) -> Iterator[Cluster]:
    with running_cluster(database) as cluster:
        yield cluster


def at_shell(cluster: Cluster, *words: str) -> tuple[Typist, int]:
    """Somebody whose shell is on c2, and the job that it is in."""
    me = cluster.at_terminal("oarsub", "-I", *words, *ON_C2)
    job_id = int(me.wait_for(r"OAR_JOB_ID=(\d+)\r\n")[1])
    me.wait_for(r"# Connect to OAR job \d+ via the node c2\r\n")
    return me, job_id


def test_much_output_of_any_bytes_arrives_as_it_is(cluster: Cluster) -> None:
    (cluster.work / "binary.py").write_text(BINARY)
    with (cluster.work / "said").open("wb") as file:
        done = cluster.on_front_end("oarsub", "-I", *ON_C2, "stty raw -echo; python3 binary.py", stdout=file)

    assert done.returncode == 0, done.stderr
    said = (cluster.work / "said").read_bytes()
    begin = said.index(BLOCK[:256])
    assert said[begin : begin + BLOCKS * len(BLOCK)] == BLOCK * BLOCKS
    assert said[begin + BLOCKS * len(BLOCK) :].startswith(b"# Disconnected from OAR job ")


def test_what_is_pasted_is_read_as_it_is(cluster: Cluster) -> None:
    me, _ = at_shell(cluster)
    text = "".join(f"line {n} {'x' * 40}\n" for n in range(20_000))

    me.type("cat > pasted; echo do''ne\n")
    me.wait_for("do''ne\r\n")
    me.paste(text)
    me.type("\x04")

    me.wait_for(r"done\r\n", timeout_s=60)
    assert cluster.read("pasted") == text
    me.type("exit\n")
    assert me.end() == 0


def test_a_window_that_changes_all_the_time_and_a_client_that_is_stopped_change_nothing(cluster: Cluster) -> None:
    me, job_id = at_shell(cluster)

    for n in range(1000):
        me.resize(20 + n % 50, 60 + n % 100)
    me.resize(33, 77)
    me.type("until [ \"$(stty size)\" = '33 77' ]; do :; done; echo wi''der\n")
    me.wait_for(r"wider\r\n")
    os.kill(me.process.pid, signal.SIGSTOP)
    me.make_usual()
    os.kill(me.process.pid, signal.SIGCONT)
    wait_until(lambda: not me.has_keys_for_itself(), what="all keys are the job's again")
    me.type("sh -c 'echo sle''eping; exec sleep 1000'\n")
    me.wait_for(r"sleeping\r\n")
    me.type("\x03")
    me.type("echo stat''us-$?\n")
    me.wait_for(r"status-130\r\n")

    os.kill(me.process.pid, signal.SIGTERM)

    assert me.end() == 128 + signal.SIGTERM
    assert me.has_keys_for_itself()
    assert cluster.wait_until_final(job_id).end_cause == "signal"


def test_a_host_whose_name_is_not_known_here_is_told_in_one_sentence(cluster: Cluster) -> None:
    done = cluster.run("oarsub", "-I", *ON_C2, check=False)

    assert done.returncode == 20
    sentence = r"oarsub: the terminal on host c2 cannot be reached from \S+ \(.+\)\n"
    assert re.fullmatch(sentence, done.stderr), done.stderr


def test_many_at_once(cluster: Cluster) -> None:
    cluster.database.execute(MORE)
    all_of_us = [cluster.at_terminal("oarsub", "-I", "-l", "/core=1") for _ in range(15)]

    for me in all_of_us:
        me.wait_for(r"via the node c\d\r\n", timeout_s=90)
    for n, me in enumerate(all_of_us):
        me.type(f"echo me''-{n}\n")
    for n, me in enumerate(all_of_us):
        me.wait_for(rf"me-{n}\r\n", timeout_s=60)
        me.type("exit\n")

    for me in all_of_us:
        assert me.end(60) == 0, me.shown
        # Nothing of the way there complains.
        assert me.shown.endswith("\r\n"), me.shown
        assert me.shown.rpartition("# Disconnected from OAR job ")[2].strip().isdigit(), me.shown


def test_a_link_that_is_cut_for_a_while_is_come_back_over(cluster: Cluster) -> None:
    me, job_id = at_shell(cluster, "--keep")
    me.type("here=before; echo re''ady\n")
    me.wait_for(r"ready\r\n")

    cluster.box.do("cut", "c2")
    try:
        wait_until(lambda: "host c2: the link ended" in cluster.log(), timeout_s=60, what="the server misses it")
        me.vanish()
        early = cluster.at_terminal("oarsub", "-C", str(job_id))
        assert early.end(60) == 11
        assert f"oarsub -C {job_id} comes back while it runs" in early.shown
    finally:
        cluster.box.do("mend", "c2")

    again = cluster.at_terminal("oarsub", "-C", str(job_id))
    again.type("echo st''ill-$here\n")
    again.wait_for(r"still-before\r\n", timeout_s=60)
    again.type("exit\n")
    assert again.end() == 0, again.shown
    assert cluster.wait_until_final(job_id).end_cause == "exit"
