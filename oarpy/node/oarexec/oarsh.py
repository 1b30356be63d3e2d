"""What oarsh needs of a host.

Asked to in ``hello``, the guard listens on a port, one of those that are named (the same one as the guard
before it, if it can; one that jobs here know is kept, whatever is named later).
Whoever connects says ``oarsh JOB.ATTEMPT PROOF`` in one line; with the proof of a job that runs here
it is answered ``go``, and an sshd goes on with the connection: one for each, as the job's user, in
the job's containment, with the job's key as host key and as the key that it lets in.  So nothing of
it needs root, and what comes in is killed with the job.  ``programs`` are what jobs find in their
PATH: oarsh, oarcp and oarprint, so that nothing need be installed.
"""

import errno
import os
import re
import socket
import sys
from typing import Dict, Iterable

from .files import reachable
from .host import find_program

PROGRAM = re.compile(r"[a-z]+\Z")
# A connection that says nothing, and how much one may say; and how many wait at a time.
CALL_S, CALL_LENGTH, MOST_CALLS = 10.0, 200, 64
PLAIN = re.compile(r"[^\x00-\x1f\x7f\"\\]*\Z")
# What a terminal, or a login, sets for itself.
NOT_FOR_SSHD = ("TERM", "SHLVL", "HOME", "SHELL", "USER", "LOGNAME")


def python_of_users() -> str:
    """A python3 that everybody can run: root's may lie in root's own directory."""
    mine = os.path.realpath(sys.executable)
    if os.geteuid() != 0 or reachable(os.path.dirname(mine)):
        return sys.executable
    return find_program("python3") or sys.executable


def listen_anywhere(ports: Iterable[int]) -> socket.socket:
    """A socket that listens on all addresses, on the first of ``ports`` that nobody has; 0 is any."""
    for wanted in ports:
        for family, address in ((socket.AF_INET6, "::"), (socket.AF_INET, "")):
            sock = None
            try:
                sock = socket.socket(family, socket.SOCK_STREAM)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                sock.bind((address, wanted))
                sock.listen(64)
                return sock
            except OSError:
                if sock is not None:
                    sock.close()
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def sshd_config(directory: str, variables: Dict[str, str]) -> str:
    """What an sshd of a job, which runs as the job's user, has to know."""
    # Older ones cannot read every character back.
    told = {name: value for name, value in variables.items() if name not in NOT_FOR_SSHD and PLAIN.match(value)}
    lines = [
        'HostKey "%skey"' % directory,
        'AuthorizedKeysFile "%sauthorized_keys"' % directory.replace("%", "%%"),
        "AuthenticationMethods publickey",
        "UsePAM no",
        "UseDNS no",
        "StrictModes no",
        "PrintMotd no",
        "PrintLastLog no",
        "PidFile none",
        "LogLevel ERROR",
        "LoginGraceTime 30",
        "ClientAliveInterval 60",
        "AcceptEnv LANG LC_*",
        # A port of the loopback interface, and a cookie in the user's own file.
        "X11Forwarding yes",
        "X11UseLocalhost yes",
        "Subsystem sftp internal-sftp",
        "SetEnv " + " ".join('"%s=%s"' % item for item in sorted(told.items())),
    ]
    return "".join(line + "\n" for line in lines)
