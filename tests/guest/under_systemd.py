"""Runs in a Debian with systemd, as root and at each of its two boots; prints what it found as one line of JSON.

Standard library only.  The machine is some ten times slower than the one that it runs on.
"""

import json
import os
import re
import signal
import subprocess
import time
import traceback
from pathlib import Path

NOTES = Path("/var/lib/found.json")
SETTINGS = Path("/var/lib/oarpy/oarpy.toml")
UNIT = "/opt/oarpy/venv/share/oarpy/conf/systemd/oarpy.service"
WITHIN_S = 300
FINAL = ("Terminated", "Error")
LONG = 'echo $$ > pid.$OAR_JOB_ID; nproc > nproc.$OAR_JOB_ID; trap "" HUP; while :; do sleep 1; done'
FILLS = "python3 -c 'len(bytearray(700 << 20))'"


def run(*words, user=None, check=True):
    command = words
    if user:
        command = ("setpriv", "--reuid", user, "--regid", user, "--init-groups", "env", "HOME=/home/" + user, *words)
    place = "/home/" + user if user else "/"
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=place, check=False)
    print(f"{time.monotonic():6.1f} {' '.join(words)}: {done.returncode}", flush=True)
    if check and done.returncode:
        raise SystemExit(done.stdout)
    return done.stdout


def wait_until(holds, what):
    deadline = time.monotonic() + WITHIN_S
    while True:
        found = holds()
        if found:
            return found
        if time.monotonic() > deadline:
            raise SystemExit("waited in vain: " + what)
        time.sleep(0.5)


def text(path):
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def unit(name):
    return run("systemctl", "show", "oarpy", "--property", name, "--value").strip()


def submit(command):
    said = run("oarsub", "-l", "core=1,walltime=2:00:00", command, user="alice")
    return int(re.search(r"OAR_JOB_ID=(\d+)", said).group(1))


def until_state(job, *states):
    def look():
        facts = json.loads(run("oarstat", "-f", "-j", str(job), "-J", user="alice"))[str(job)]
        return facts if facts["state"] in states else None

    return wait_until(look, f"job {job} is {' or '.join(states)}")


def end(job):
    facts = until_state(job, *FINAL)
    return [facts["state"], facts["end_cause"]]


def begin_long():
    """(job, the process id of its shell)."""
    job = submit(LONG)
    until_state(job, "Running")
    return job, wait_until(lambda: text(f"/home/alice/pid.{job}"), f"job {job} says who it is")


def group(pid):
    return text(f"/proc/{pid}/cgroup").rpartition("::")[2]


def lives(pid):
    return os.path.exists(f"/proc/{pid}")


def guards():
    pids = [pid for pid in os.listdir("/proc") if pid.isdigit()]
    return [pid for pid in pids if "\0guard\0--spool\0" in text(f"/proc/{pid}/cmdline")]


def accounts_of_the_server():
    said = run("ps", "-eo", "user=,comm=")
    return dict(
        reversed(line.split()) for line in said.splitlines() if line.split()[1].startswith(("oar-", "postgres"))
    )


def comes_up():
    done = run("oarpy", "up", check=False)
    print(done, flush=True)
    return "almighty   pid " in done


def first(found):
    # On a machine that does much else it has less time than it needs.
    wait_until(comes_up, "the instance is made")
    run("oarpy", "down")
    SETTINGS.write_text("[nodes]\nmemory_share = true\n")
    run("cp", UNIT, "/etc/systemd/system/")
    run("systemctl", "daemon-reload")
    run("systemctl", "enable", "--now", "oarpy")
    found["status"] = unit("StatusText")
    found["accounts"] = accounts_of_the_server()
    found["doctor"] = run("oarpy", "doctor", check=False).splitlines()

    long, pid = begin_long()
    found["groups"] = {"job": group(pid), "almighty": group(unit("MainPID")), "guards": [*map(group, guards())]}
    run("systemctl", "daemon-reload")
    run("systemctl", "daemon-reexec")
    found["the job's group after a reload"] = group(pid)
    found["its processors"] = text(f"/sys/fs/cgroup{group(pid)}/cpuset.cpus.effective")
    found["what it counts"] = text(f"/home/alice/nproc.{long}")
    found["too much memory"] = end(submit(FILLS))

    begun = time.monotonic()
    run("systemctl", "stop", "oarpy")
    found["stop"] = [unit("ActiveState"), unit("Result"), time.monotonic() - begun < 60, lives(pid)]
    run("systemctl", "start", "oarpy")
    found["start"] = [until_state(long, "Running")["state"], lives(pid)]
    before = unit("MainPID")
    os.kill(int(before), signal.SIGKILL)
    wait_until(lambda: unit("MainPID") not in (before, "0") and unit("ActiveState") == "active", "another almighty")
    found["kill"] = [until_state(long, "Running")["state"], lives(pid), unit("NRestarts")]
    run("oardel", str(long), user="alice")
    found["deleted"] = [*end(long), lives(pid)]

    good = SETTINGS.read_text()
    SETTINGS.write_text("[nodse]\n")
    run("systemctl", "restart", "oarpy", check=False)
    found["bad settings"] = [unit("ActiveState"), unit("ExecMainStatus")]
    found["their reason"] = run("journalctl", "-u", "oarpy", "-n", "20", "-o", "cat", "--no-pager")
    SETTINGS.write_text(good)
    run("systemctl", "start", "oarpy")

    found["at the reboot"], _ = begin_long()
    NOTES.write_text(json.dumps(found))
    run("systemctl", "reboot")


def second(found):
    wait_until(lambda: unit("ActiveState") == "active", "the unit is active again")
    found["after the reboot"] = end(found["at the reboot"])
    found["a new job"] = end(submit("true"))
    found["log of the database"] = text("/var/lib/oarpy/log/postgresql.log")[-3000:]
    print("found: " + json.dumps(found), flush=True)
    run("systemctl", "poweroff")


try:
    if NOTES.exists():
        second(json.loads(NOTES.read_text()))
    else:
        first({})
except BaseException:
    # Whoever reads this has no other way into the machine.
    print(run("ps", "-N", "--ppid", "2", "-o", "pid,user,cgroup:60,args", check=False))
    print(run("journalctl", "-b", "-n", "60", "--no-pager", check=False))
    print(traceback.format_exc())
    run("systemctl", "poweroff", check=False)
