"""What oarsh and its sshd read of a job, and the programs that jobs find in their PATH.

These, the ``programs`` of ``hello``, are oarsh, oarcp and oarprint, so that nothing need be installed.
"""

import grp
import json
import os
import re
import sys
from contextlib import suppress
from typing import Dict

from .accounts import Account
from .entries import Entry
from .files import SpoolFailed, complain, let_read, reachable, remove_tree, renew, trouble
from .host import find_program
from .protocol import Access, Garbled, Json
from .site import Site
from .variables import search_path

PROGRAM = re.compile(r"[a-z]+\Z")
PLAIN = re.compile(r"[^\x00-\x1f\x7f\"\\]*\Z")
# What a terminal, or a login, sets for itself.
NOT_FOR_SSHD = ("TERM", "SHLVL", "HOME", "SHELL", "USER", "LOGNAME")


def write_access(site: Site, entry: Entry, access: Access, environment: Dict[str, str], account: Account) -> None:
    """Make what oarsh and its sshd read, for the job's user alone.  Raises ``SpoolFailed``."""
    variables = dict(environment, PATH=search_path(site, account))
    said = {"name": entry.name, "user": account.name, "hosts": access.hosts, "public": access.public}
    files = {
        "key": access.private,
        "authorized_keys": "".join(key + "\n" for key in [access.public, *access.authorized]),
        "known_hosts": "oarpy %s\n" % access.public,
        "access": json.dumps(said),
        "sshd_config": sshd_config(site.path(entry, "oarsh/"), variables, has_terminals()),
    }
    try:
        with suppress(FileExistsError):
            os.mkdir(entry.path("oarsh"), 0o711 if site.root else 0o700)
        entry.proof = access.proof
        for name, text in files.items():
            path = site.path(entry, "oarsh/" + name)
            renew(path, text, 0o600)
            if site.root:
                let_read(path, account.uid)
    except OSError as error:
        raise SpoolFailed(trouble(error)) from error


def drop_access(entry: Entry) -> None:
    """Let oarsh come to a job no more."""
    if entry.proof is None:
        return
    entry.proof = None
    try:
        remove_tree(entry.path("oarsh"))
    except FileNotFoundError:
        # Another guard had begun to end it, or to let oarsh in.
        pass
    except OSError as error:
        complain("job %s: %s" % (entry.name, trouble(error)))


def take_programs(programs: Json) -> None:
    """Put the programs of jobs where they find them."""
    for name, text in programs.items():
        if not PROGRAM.match(name) or not isinstance(text, str):
            raise Garbled("programs hold %r" % name)
        path = "bin/" + name
        text = "#!%s -IS\n%s" % (python_of_users(), text)
        try:
            renew(path, text, 0o755)
        except OSError as error:
            complain("the programs of jobs: %s" % trouble(error))


def python_of_users() -> str:
    """A python3 that everybody can run: root's may lie in root's own directory."""
    mine = os.path.realpath(sys.executable)
    if os.geteuid() != 0 or reachable(os.path.dirname(mine)):
        return sys.executable
    return find_program("python3") or sys.executable


def has_terminals() -> bool:
    """Whether an sshd that is not root's can take a terminal here."""
    try:
        tty = grp.getgrnam("tty").gr_gid
    except KeyError:
        return True
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="replace") as file:
            return gives_terminals(file.read(), tty)
    except OSError:
        return True


def gives_terminals(mounts: str, tty: int) -> bool:
    """Whether new terminals belong to the group ``tty``; sshd gives up where it may not change theirs."""
    at = [words[3].split(",") for words in map(str.split, mounts.splitlines()) if words[1:3] == ["/dev/pts", "devpts"]]
    return not at or "gid=%d" % tty in at[-1]


def sshd_config(directory: str, variables: Dict[str, str], terminals: bool) -> str:
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
        # Refused, ssh says so; else sshd dies of it, and nobody is told why.
        "PermitTTY %s" % ("yes" if terminals else "no"),
        # A port of the loopback interface, and a cookie in the user's own file.
        "X11Forwarding yes",
        "X11UseLocalhost yes",
        "Subsystem sftp internal-sftp",
        "SetEnv " + " ".join('"%s=%s"' % item for item in sorted(told.items())),
    ]
    return "".join(line + "\n" for line in lines)
