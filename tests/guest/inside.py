"""Runs in the guest: jobs through oarexec, as a runner sends them; prints what became of them as one line of JSON.

Standard library only, like what it tries.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

INSTANCE = "01234567-89ab-cdef-0123-456789abcdef"
HERS = "fedcba98-7654-3210-fedc-ba9876543210"
FILLS = "python3 -c 'len(bytearray({} << 20))'"


class Session:
    """The runner's side of one session; ``becomes`` is done by the other side first."""

    def __init__(self, instance=INSTANCE, spool="/var/spool/oarpy", becomes=None):
        words = [sys.executable, "-I", "-S", "/guest/oarexec.zip", "session", "--spool", spool]
        self.link = subprocess.Popen(
            [*words, "--instance", instance, "--min-uid", "1000"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=becomes,
        )
        self.ended = {}
        self.began = set()
        self.answers = {}
        self.orders = 0
        self.say({"hello": {"protocol": 1, "instance": instance, "session": [1, 1]}})
        self.hello = self.hear()["hello"]
        self.hear()

    def say(self, message):
        self.link.stdin.write(json.dumps(message).encode() + b"\n")
        self.link.stdin.flush()

    def hear(self):
        line = self.link.stdout.readline()
        if not line:
            raise SystemExit("the session has ended")
        message = json.loads(line)
        for report in message.get("reports", ()):
            if report["is"] == "ended":
                self.ended[report["job"]] = report
            elif report["is"] == "began":
                self.began.add(report["job"])
        for answer in message.get("answers", ()):
            self.answers[answer["order"]] = answer
        return message

    def begin(self, job, command, **other):
        launch = {
            "job": job,
            "attempt": 1,
            "user": "alice",
            "command": command,
            "directory": "/home/alice",
            "stdout": f"{job}.out",
            "stderr": f"{job}.err",
            "walltime_s": 600.0,
        }
        self.say({"launches": [dict(launch, **other)]})
        while job not in self.began and job not in self.ended:
            self.hear()

    def order(self, kind, job, **other):
        self.orders += 1
        self.say({"orders": [dict(other, order=self.orders, kind=kind, job=job, attempt=1)]})
        while self.orders not in self.answers:
            self.hear()
        return self.answers[self.orders]["done"]

    def end(self, job):
        while job not in self.ended:
            self.hear()
        names = ("cause", "status", "peak_mib", "short_of_memory", "text")
        found = {name: self.ended[job].get(name) for name in names}
        for stream in ("out", "err"):
            path = f"/home/alice/{job}.{stream}"
            found[stream] = Path(path).read_text() if os.path.exists(path) else None
        return found

    def run(self, job, command, **other):
        self.begin(job, command, **other)
        return self.end(job)


def group(job):
    return Path(f"/sys/fs/cgroup/oarpy/{INSTANCE}/{job}.1")


def is_alices(pid):
    try:
        return os.stat("/proc/" + pid).st_uid == 1000
    except OSError:
        return False


def delegated(within):
    """What keeps a job of alice's own instance, begun ``within`` the group that is hers or not, and how it ends."""
    base = "/sys/fs/cgroup/oarpy"
    own = base + "/hers"
    spool = "/var/spool/alice" + str(within)
    for path in (own, spool):
        os.makedirs(path, exist_ok=True)
    for path in (base, base + "/cgroup.procs", base + "/cgroup.subtree_control", own, own + "/cgroup.procs", spool):
        os.chown(path, 1000, 1000)

    def becomes():
        if within:
            Path(own, "cgroup.procs").write_text("0")
        os.setgid(1000)
        os.setuid(1000)

    session = Session(HERS, spool, becomes)
    end = session.run(1, "true", cpus="1", memory_mib=60)
    session.link.kill()
    return {"by": session.hello["containment"]["by"], "end": [end["cause"], end["status"], end["text"]]}


def main():
    session = Session()
    found = {"containment": session.hello["containment"]}
    found["cpus"] = session.run(1, "grep Cpus_allowed_list /proc/self/status; nproc", cpus="1")
    found["over"] = session.run(2, FILLS.format(100), memory_mib=30)
    found["within"] = session.run(3, FILLS.format(20), memory_mib=60)
    found["went on"] = session.run(4, FILLS.format(100) + "; exit 0", memory_mib=30)
    looks = "for name in zero full; do head -c 1 /dev/$name >/dev/null && echo $name; done"
    found["devices"] = session.run(5, looks, devices={"denied": ["/dev/full"], "visible": "0"})

    session.begin(6, "setsid sleep 1000 & trap '' TERM; while :; do sleep 1; done")
    found["suspended"] = session.order("suspend", 6)
    found["frozen"] = "frozen 1" in (group(6) / "cgroup.events").read_text()
    found["resumed"] = session.order("resume", 6)
    found["thawed"] = "frozen 0" in (group(6) / "cgroup.events").read_text()
    session.order("kill", 6, kill_after_s=0.2, cause="killed")
    found["killed"] = session.end(6)
    found["groups left"] = [name for name in os.listdir(group(6).parent) if name[0].isdigit()]
    found["processes left"] = [pid for pid in os.listdir("/proc") if pid.isdigit() and is_alices(pid)]
    found["delegated"] = {"outside": delegated(False), "within": delegated(True)}
    print("found: " + json.dumps(found))


main()
