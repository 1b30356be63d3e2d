"""``oarpy.client`` and ``OarExecutor`` as programs use them, on a running instance."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.accounts import environment_of, switched
from tests.support.instance import System

PAGE = (Path(__file__).parents[2] / "docs/python.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
TITLES = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)


def run(system: System, program: str) -> str:
    """What a program of the user's prints."""
    done = subprocess.run(
        switched(system.user, [sys.executable, "-c", program]),
        env=environment_of(system.user, system.environment),
        cwd=system.work,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.split("\n")[2][:40])
def test_an_example_of_the_page_holds(system, example):
    run(system, example)


def test_the_page_has_an_example_for_each_part():
    assert len(EXAMPLES) >= len(TITLES)


def test_a_wait_has_an_end(system):
    said = run(
        system,
        "from oarpy import client; i = client.submit('sleep 600').job_ids[0]\n"
        "print(client.wait([i], timeout=0.5)[0].is_final); client.cancel(i); client.wait([i])",
    )

    assert said == "False\n"


def test_a_job_tells_the_same_whether_it_is_waited_for_or_looked_up(system):
    said = run(
        system,
        "from oarpy import client\n"
        "ids = client.submit('exit $OAR_ARRAY_INDEX', array=2).job_ids + client.submit('true').job_ids\n"
        "facts = lambda jobs: [(job.job_id, job.is_final, job.exit_status, job.succeeded) for job in jobs]\n"
        "found = facts(client.wait(ids))\n"
        "print(found == facts(client.jobs(ids)), [fact[1:] for fact in found])",
    )

    assert said == "True [(True, 1, False), (True, 2, False), (True, 0, True)]\n"


def test_a_job_that_does_not_exist_is_not_waited_for(system):
    said = run(
        system,
        "from oarpy import client\nfrom oarpy.errors import RequestRefused\n"
        "try: client.wait([4711])\nexcept RequestRefused as refusal: print(refusal)",
    )

    assert said == "there is no job 4711; oarstat -u lists your jobs\n"


def test_the_same_key_submits_once(system):
    said = run(
        system,
        "from oarpy import client\nkey = '0123456789abcdef' * 2\n"
        "print(client.submit('true', key=key).job_ids == client.submit('true', key=key).job_ids)",
    )

    assert said == "True\n"


def test_a_job_without_a_result_is_a_failure_that_says_why(system):
    said = run(
        system,
        "import os\nfrom oarpy.client import JobFailed, OarExecutor\n"
        "with OarExecutor() as executor:\n"
        "    error = executor.submit(os._exit, 3).exception()\n"
        "    assert isinstance(error, JobFailed)\n"
        "    print(error.job.exit_status, os.path.exists(error.directory), error)",
    )

    assert said == "3 True job 1 ended without a result (exit)\n"


def test_cancelling_a_future_deletes_its_job(system):
    said = run(
        system,
        "import os, time\nfrom concurrent.futures import wait\n"
        "from oarpy.client import OarExecutor, wait as until_over\n"
        "with OarExecutor(['/core=4']) as executor:\n"
        "    first = executor.submit(os.system, 'until [ -e go ]; do sleep 0.1; done')\n"
        "    second = executor.submit(time.sleep, 600)\n"
        "    print(second.cancel(), second.cancelled(), len(wait([second], timeout=60).done))\n"
        "    open('go', 'w').close()\n"
        "    print(until_over([second.job_id])[0].end_cause, first.result())",
    )

    assert said == "True True 1\nkilled 0\n"


def test_an_exception_says_where_in_the_job_it_was_raised(system):
    (system.work / "steps.py").write_text("def fails(x):\n    return 1 / x\n")
    said = run(
        system,
        "import traceback\nfrom oarpy.client import OarExecutor\nimport steps\n"
        "with OarExecutor() as executor:\n"
        "    print(''.join(traceback.format_exception(executor.submit(steps.fails, 0).exception())))",
    )

    assert "return 1 / x" in said
    assert said.rstrip().endswith("ZeroDivisionError: division by zero")


def test_classes_of_the_program_itself_come_back_as_they_are(system):
    (system.work / "program.py").write_text(
        "from dataclasses import dataclass\n"
        "from oarpy.client import OarExecutor\n"
        "@dataclass\nclass Point:\n    x: int\n"
        "class Outside(Exception):\n    pass\n"
        "def moved(point):\n"
        "    if point.x > 9: raise Outside(point.x)\n"
        "    return Point(point.x + 1)\n"
        "with OarExecutor() as executor:\n"
        "    near, far = executor.submit(moved, Point(1)), executor.submit(moved, Point(10))\n"
        "    print(near.result() == Point(2), type(far.exception()) is Outside, far.exception())\n"
    )

    assert run(system, "import runpy; runpy.run_path('program.py', run_name='__main__')") == "True True 10\n"


def test_nothing_is_left_behind(system):
    run(
        system,
        "from oarpy.client import OarExecutor\n"
        "with OarExecutor() as executor:\n    assert list(executor.map(abs, range(-9, 0))) == list(range(9, 0, -1))",
    )

    assert list((system.work / "oar_calls").iterdir()) == []
