"""The session: from the runner's link to the guard's socket."""

import errno
import os
import socket
import stat
import sys
import time
from typing import List

from .spawning import myself, spawn

# A guard that has taken its door away may hold its lock for a moment longer.
CONNECT_AFTER_S = (0.0, 0.0, 0.1, 0.3, 1.0, 2.0)
# What a session does for as long as it lives: without all that it was python takes half of the memory.
RELAY = """\
import os, select, sys
link = int(sys.argv[-1])
to = {0: link, link: 1}
poll = select.poll()
for fd in to:
    poll.register(fd, select.POLLIN)
while True:
    for fd, _ in poll.poll():
        data = os.read(fd, 1 << 18)
        if not data:
            sys.exit(fd != 0)
        while data:
            data = data[os.write(to[fd], data) :]
"""


def session(spool: str, instance: str, options: List[str]) -> int:
    """Become what carries lines between stdin, stdout and the guard until one of them ends."""
    try:
        make_spool(spool, instance)
        link = connect(spool, instance, options)
    except OSError as error:
        raise SystemExit("oarexec: the spool %s cannot be used: %s" % (spool, error.strerror or error)) from None
    link.set_inheritable(True)
    arguments = ["session", "--spool", spool, "--instance", instance, *options, str(link.fileno())]
    os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", RELAY, *arguments])
    return 1


def make_spool(spool: str, instance: str) -> None:
    # Users reach their node files below it, and can list nothing.
    mode = 0o711 if os.geteuid() == 0 else 0o700
    own = os.path.join(spool, instance)
    for path in (spool, own, *(os.path.join(own, name) for name in ("jobs", "free", "shared", "bin"))):
        if not os.path.isdir(path):
            os.makedirs(path, exist_ok=True)
            os.chmod(path, mode)
    for path in (spool, own):
        if os.geteuid() == 0 and not is_of_root(path):
            raise OSError(errno.EPERM, "it must be root's, and nobody else may write to it")


def is_of_root(path: str) -> bool:
    """Whether nobody but root can change what is in a directory, or put another one in its place below /tmp."""
    found = os.stat(path)
    return {found.st_uid, os.lstat(path).st_uid} == {0} and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def connect(spool: str, instance: str, options: List[str]) -> socket.socket:
    """A connection to the guard, which is started when nothing answers."""
    os.chdir(os.path.join(spool, instance))
    for pause_s in CONNECT_AFTER_S:
        time.sleep(pause_s)
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            link.connect("guard.sock")
            return link
        except (FileNotFoundError, ConnectionRefusedError):
            link.close()
        start_guard(spool, instance, options)
    raise SystemExit("oarexec: no guard could be started; see %s" % os.path.join(spool, instance, "guard.log"))


def start_guard(spool: str, instance: str, options: List[str]) -> None:
    """Start a guard and wait until it is ready, or has found that there is another."""
    ready, write_end = os.pipe2(os.O_CLOEXEC)
    log = os.open("guard.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    arguments = myself("guard", "--spool", spool, "--instance", instance, *options)
    try:
        spawn(arguments, {"PATH": "/usr/bin:/bin"}, {1: write_end, 2: log})
    finally:
        os.close(write_end)
        os.close(log)
    while os.read(ready, 64):
        pass
    os.close(ready)
