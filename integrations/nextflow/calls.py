"""What Nextflow's executor for OAR does, call by call, for a place without Nextflow.

The files, the commands and what is read of them are those of nextflow.executor.OarExecutor
and of nextflow.executor.AbstractGridExecutor, on which it rests.
"""

import json
import re
import subprocess
import time
from pathlib import Path

#: What Nextflow knows each state as; it takes any other for unknown, and its job for one that is over.
KNOWN = {
    **dict.fromkeys(["toLaunch", "Launching", "Running", "Finishing"], "RUNNING"),
    **dict.fromkeys(["Waiting", "toAckReservation"], "PENDING"),
    **dict.fromkeys(["Hold", "Suspended"], "HOLD"),
    **dict.fromkeys(["Error", "toError"], "ERROR"),
    "Terminated": "DONE",
}


def directives(
    folder: Path,
    task: str,
    cpus: int = 1,
    walltime: str | None = None,
    memory_gb: int | None = None,
    queue: str | None = None,
    options: str = "--project demo",
) -> list[str]:
    """The #OAR lines of a process with these settings."""
    # As Nextflow writes a path that has a blank, say: quoted, and with a backslash before the blank all the same.
    quoted = '"{}"'.format(re.sub(r"""['" ()\\!&|<>`:]""", r"\\\g<0>", str(folder)))
    log = quoted[:-1] + '/.command.log"'
    # A name keeps its parentheses: nf-square_(1).
    name = "nf-" + re.sub(r"[ /:@*?\n\t\r]", "_", task)
    lines = [f"-d {quoted}", f"-n {name[:100]}", f"-O {log}", f"-E {log}"]
    if memory_gb is not None:
        lines.append(f'-p "memnode={memory_gb}"')
    if cpus > 1:
        lines.append(f"-l /nodes=1/core={cpus}" + (f",walltime={walltime}" if walltime else ""))
    elif walltime:
        lines.append(f"-l walltime={walltime}")
    if queue:
        lines.append(f"-q {queue}")
    return [f"#OAR {line}" for line in [*lines, *options.split(";")] if line]


def folder_of(task: str) -> Path:
    return Path("work", task).resolve()


def submit(task: str, script: str, **settings: int | str | None) -> int:
    """Write the task's .command.run into its folder and submit it from there."""
    folder = folder_of(task)
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["#!/bin/bash", *directives(folder, task, **settings)]
    lines.append(f"({script}) >.command.out 2>.command.err; echo -n $? >.exitcode")
    (folder / ".command.run").write_text("\n".join(lines) + "\n")
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
    """The jobs that are not over, as Nextflow reads them of ``oarstat -f``, whose complaints it reads too."""
    command = ["oarstat", "-f", *([queue] if queue else [])]
    said = subprocess.run(
        ["sh", "-c", f"{' '.join(command)} | grep -E '(Job_Id:|state =)' "],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    found: dict[int, str] = {}
    job_id = 0
    for line in said.stdout.splitlines():
        if line.startswith("Job_Id:"):
            job_id = int(line.removeprefix("Job_Id:"))
        else:
            found[job_id] = KNOWN[line.partition("state =")[2].strip()]
    return found


def result(task: str) -> tuple[int, str]:
    """The exit status and the output of a task that is not listed any more."""
    folder = folder_of(task)
    return int((folder / ".exitcode").read_text()), (folder / ".command.out").read_text()


def wait_until_gone(jobs: list[int]) -> None:
    """Return when no job is listed as active."""
    while set(jobs) & set(states()):
        time.sleep(0.5)


def hosts_have_memnode() -> bool:
    """Whether ``memory`` of a process can be asked for here."""
    hosts = json.loads(subprocess.check_output(["oarnodes", "-J"], text=True))
    return any(host.get("memnode") in (4, "4") for host in hosts.values())


if __name__ == "__main__":
    tasks = [f"square ({n})" for n in (1, 2, 3)]
    jobs = [submit(task, f"echo $(({n} * {n}))", walltime="00:10:00") for n, task in enumerate(tasks, start=1)]
    failing = submit("fails", "exit 3")
    # All that a process can say: cpus, time, memory, queue, clusterOptions.
    wide = submit(
        "wide",
        "wc -l < $OAR_NODEFILE",
        cpus=2,
        walltime="51:00:00",
        memory_gb=4 if hosts_have_memnode() else None,
        queue="default",
        options="--project demo; -t besteffort",
    )
    sleepers = [submit(f"sleeps {n}", "sleep 300", walltime="01:00:00") for n in (1, 2)]
    assert set(sleepers) <= set(states("default"))
    # What is deleted is no hindrance to what waits: a machine may have two cores.
    subprocess.run(["oardel", *map(str, sleepers)], check=True, timeout=60)
    wait_until_gone([*jobs, failing, wide, *sleepers])
    assert [result(task) for task in tasks] == [(0, "1\n"), (0, "4\n"), (0, "9\n")]
    assert result("fails") == (3, "")
    assert result("wide") == (0, "2\n")
    assert not (folder_of("sleeps 1") / ".exitcode").exists()
    print("all went well")
