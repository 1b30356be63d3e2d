"""What Nextflow's executor for OAR does, call by call, for a place without Nextflow.

The files, the commands and what is read of them are those of nextflow.executor.OarExecutor.
"""

import re
import subprocess
import time
from pathlib import Path


def submit(task: str, script: str) -> int:
    """Write the task's .command.run into its folder and submit it from there."""
    folder = Path("work", f"{task} of a run").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    # As Nextflow writes a path that has a blank: quoted, and with a backslash before the blank.
    quoted = str(folder).replace(" ", "\\ ")
    (folder / ".command.run").write_text(
        "#!/bin/bash\n"
        f'#OAR -d "{quoted}"\n'
        f"#OAR -n nf-{task}\n"
        f'#OAR -O "{quoted}/.command.log"\n'
        f'#OAR -E "{quoted}/.command.log"\n'
        "#OAR -l walltime=00:10:00\n"
        "#OAR --project demo\n"
        f"({script}) >.command.out 2>.command.err; echo -n $? >.exitcode\n"
    )
    (folder / ".command.run").chmod(0o700)
    said = subprocess.run(
        ["oarsub", "-S", "./.command.run"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    ).stdout
    ids = [found[1] for line in said.splitlines() if (found := re.fullmatch(r"OAR_JOB_ID=(\d+)", line))]
    return int(ids[0])


def states(queue: str | None = None) -> dict[int, str]:
    """The jobs that are not over, as Nextflow reads them of ``oarstat -f``."""
    command = ["oarstat", "-f", *([queue] if queue else [])]
    said = subprocess.run(
        ["sh", "-c", f"{' '.join(command)} | grep -E '(Job_Id:|state =)'"], capture_output=True, text=True
    )
    found: dict[int, str] = {}
    job_id = 0
    for line in said.stdout.splitlines():
        if line.startswith("Job_Id:"):
            job_id = int(line.removeprefix("Job_Id:"))
        else:
            found[job_id] = line.partition("state =")[2].strip()
    return found


def result(task: str) -> tuple[int, str]:
    """The exit status and the output of a task that is not listed any more."""
    folder = Path("work", f"{task} of a run")
    return int((folder / ".exitcode").read_text()), (folder / ".command.out").read_text()


def wait_until_gone(jobs: list[int]) -> None:
    """Return when no job is listed as active."""
    while set(jobs) & set(states()):
        time.sleep(0.5)


if __name__ == "__main__":
    jobs = [submit(f"square{n}", f"echo $(({n} * {n}))") for n in (1, 2, 3)]
    failing = submit("fails", "exit 3")
    sleeper = submit("sleeps", "sleep 300")
    assert sleeper in states("default")
    wait_until_gone([*jobs, failing])
    assert [result(f"square{n}") for n in (1, 2, 3)] == [(0, "1\n"), (0, "4\n"), (0, "9\n")]
    assert result("fails") == (3, "")
    subprocess.run(["oardel", str(sleeper)], check=True, timeout=10)
    wait_until_gone([sleeper])
    print("all went well")
