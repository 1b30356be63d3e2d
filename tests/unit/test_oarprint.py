"""oarprint: the file of a job's properties as programs want it; and alone, where oarpy is not installed."""

import subprocess
import sys
from pathlib import Path

import pytest

from oarpy.node import oarprint

LINES = [
    "core = '10' , host = 'c2' , model = 'A , b = 'c' , mem = ''\n",
    "core = '9' , host = 'c2' , model = 'x' , mem = '64'\n",
    "\n",
    "core = '1' , host = 'c10' , model = 'x' , mem = '64'\n",
]


def printed(*arguments, **how):
    return oarprint.printed(oarprint.read(LINES), *arguments, **how)


def test_values_may_hold_what_parts_them():
    assert oarprint.read(LINES)[0] == {"core": "10", "host": "c2", "model": "A , b = 'c", "mem": ""}


@pytest.mark.parametrize(
    ("arguments", "how", "lines"),
    [
        (("core",), {}, ["1", "9", "10"]),
        (("host",), {}, ["c2", "c10"]),
        (("host", ["host", "core"]), {}, ["c2 9,10", "c10 1"]),
        (("host", ["host", "core"], "% has %!"), {"comma": "+"}, ["c2 has 9+10!", "c10 has 1!"]),
        (("core", ["host"], "% "), {}, ["c10 ", "c2 ", "c2 "]),
        (("host", ["core", "mem"], "@[@]"), {"token": "@"}, ["9,10[,64]", "1[64]"]),
        (("host", ["core", "mem"], "<%>"), {}, ["<9,10> ,64", "<1> 64"]),
        (("host", ["core"], "% of %"), {}, ["9,10 of ", "1 of "]),
    ],
)
def test_each_value_of_the_property_is_a_line(arguments, how, lines):
    assert printed(*arguments, **how) == lines


def test_a_property_that_is_not_there_is_refused():
    with pytest.raises(oarprint.Unprintable, match="no property 'gpu'"):
        printed("host", ["gpu"])


def test_a_job_without_resources_prints_nothing():
    assert oarprint.printed([], "host") == []


def test_the_file_alone_is_a_program(tmp_path):
    (tmp_path / "resources").write_text("".join(LINES))
    alone = tmp_path / "oarprint"
    alone.write_bytes(Path(oarprint.__file__).read_bytes())
    command = [sys.executable, "-I", "-S", str(alone)]

    def run(*words, stdin=""):
        environment = {"OAR_RESOURCE_PROPERTIES_FILE": str(tmp_path / "resources")}
        return subprocess.run(
            [*command, *words], env=environment, input=stdin, capture_output=True, text=True, check=False
        )

    assert run("host", "-P", "host,core", "-F", "%:%", "-C", "+").stdout == "c2:9+10\nc10:1\n"
    assert run("host", "-f", "-", stdin="host = 'c7'\n").stdout == "c7\n"
    assert run("-l").stdout == "List of properties:\ncore, host, mem, model\n"
    assert (run("gpu").returncode, run("gpu").stdout) == (1, "")
    assert run().stderr == "oarprint: which property? -l lists them\n"
