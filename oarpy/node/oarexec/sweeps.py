"""The sweep.

A **sweep** removes what is left of a user when his last job here is over, before the epilogue: it runs
as that user, so it can remove nothing that he could not, and follows no links.  Unless his processes
are to be killed, too, a living one means that nothing else is touched; one in the control group of a job, which
is another instance's, always means that.  Launches of the user wait for it.
"""

import os
import re
import signal
import stat
import time
from contextlib import suppress
from typing import List

from .files import read_text
from .host import clock

IN_JOB = re.compile(r"/oarpy/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/\d+\.\d+$", re.M)
# The kinds of System V IPC: what /proc calls them, their ids, and how they are removed.
IPC = {"shm": "shmid", "sem": "semid", "msg": "msqid"}
IPC_RMID = 0
PR_SET_PDEATHSIG = 1
DEATH_S = 5.0
# Nobody who does not mean harm makes deeper ones; each level keeps a descriptor open.
DEEPEST = 200


def ipc_of(kind: str, uid: int) -> List[int]:
    """The ids of what a user owns or made, of one kind of System V IPC."""
    lines = (read_text("/proc/sysvipc/" + kind) or "").splitlines()
    names = lines[0].split() if lines else []
    rows = (dict(zip(names, line.split())) for line in lines[1:])  # noqa: B905 (strict came with Python 3.10)
    return [int(row[IPC[kind]]) for row in rows if str(uid) in (row["uid"], row["cuid"])]


def processes_of(uid: int) -> List[int]:
    """The living processes that run as a user in any way, this one excepted."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                status = read_text("/proc/%s/status" % name) or ""
            except OSError:
                continue
            uids = re.search(r"^Uid:(.*)", status, re.M)
            if uids and str(uid) in uids.group(1).split() and not re.search(r"^State:\s+[ZX]", status, re.M):
                found.append(int(name))
    return found


def in_job(pid: int) -> bool:
    """Whether a process is in the control group of a job, of whatever instance."""
    try:
        return IN_JOB.search(read_text("/proc/%d/cgroup" % pid) or "") is not None
    except OSError:
        return False


def sweep(uid: int, gid: int, words: List[str], directories: List[str]) -> int:
    """Remove what is left of a user, being him."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if 0 in os.getresuid():
        return 1
    # Another guard begins with nothing of this going on.
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    deadline = clock() + DEATH_S
    living = processes_of(uid)
    while living:
        # What lives may use what else there is; and it may be another instance's job, whose last one is not over.
        if "processes" not in words or any(map(in_job, living)):
            return 0
        if clock() > deadline:
            return 3
        with suppress(ProcessLookupError):
            # All at once, so that none can fork in between.
            os.kill(-1, signal.SIGKILL)
        time.sleep(0.02)
        living = processes_of(uid)
    if "ipc" in words:
        for kind in IPC:
            for number in ipc_of(kind, uid):
                if kind == "sem":
                    libc.semctl(number, 0, IPC_RMID)
                else:
                    getattr(libc, kind + "ctl")(number, IPC_RMID, None)
    for path in directories:
        with suppress(OSError):
            remove_owned(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), uid, 0)
    return 0


def remove_owned(directory: int, uid: int, depth: int) -> None:
    """Remove what a user owns in a directory, which is closed.

    Goes into his directories alone, of the same file system, by descriptors: whatever others put
    in their place meanwhile, or links to, is left alone.
    """
    try:
        device = os.fstat(directory).st_dev
        for name in os.listdir(directory):
            with suppress(OSError):
                found = os.stat(name, dir_fd=directory, follow_symlinks=False)
                if found.st_uid != uid:
                    continue
                if not stat.S_ISDIR(found.st_mode):
                    os.unlink(name, dir_fd=directory)
                    continue
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                inner = os.open(name, flags, dir_fd=directory)
                status = os.fstat(inner)
                if status.st_uid == uid and status.st_dev == device and depth < DEEPEST:
                    if status.st_mode & stat.S_IRWXU != stat.S_IRWXU:
                        # Else he could not remove what is in it.
                        os.fchmod(inner, stat.S_IRWXU)
                    remove_owned(inner, uid, depth + 1)
                else:
                    os.close(inner)
                os.rmdir(name, dir_fd=directory)
    finally:
        os.close(directory)
