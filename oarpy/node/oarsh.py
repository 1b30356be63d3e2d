"""``oarsh`` and ``oarcp``: ssh and scp into a job, on the hosts that it has.

One file, standard library only, Python 3.6 or later: hosts have it in the directory
that a job finds in its PATH.  It does nothing that its user could not do with ssh:
what may be reached is decided by the other end, which lets in whoever has the job's
key, as the job's user, into the job's containment.  Still it takes no option of ssh
that reads other files, runs programs or opens ports.

An *access* tells how to reach a job: ``name`` (JOB.ATTEMPT), ``user``, ``hosts`` (the
port of oarexec on each), ``public`` (of the job's key pair, which the hosts have as
their host key, too).  Beside the file lie ``key`` and ``known_hosts``.

What reaches oarexec first is a line, ``oarsh NAME PROOF``; its answer is ``go``, and
from there on an sshd of the job's own speaks, or a sentence why not.
"""

import hashlib
import json
import os
import shlex
import socket
import struct
import sys
from typing import Any, Dict, List, Optional, Tuple

# Where a job finds the access to itself.
VARIABLE = "OARSH_ACCESS"
KEY_VARIABLE = "OAR_JOB_KEY_FILE"
# Both are of the job that they are found in; who enters another one from there leaves them behind.
OF_A_JOB = (VARIABLE, KEY_VARIABLE)
ALIAS = "oarpy"
CONNECT_S = 15.0

NO_JOB, NO_HOST, NO_OPTION = 3, 4, 5
ALLOWED = {"oarsh": "46CfnqTtvxXY", "oarcp": "46Cpqrv"}
USAGE = {
    "oarsh": "usage: oarsh [-46CfnqTtvxXY] [-i KEY_FILE] [-o OPTION] HOST [COMMAND...]",
    "oarcp": "usage: oarcp [-46Cpqrv] [-i KEY_FILE] [-o OPTION] [HOST:]FILE... [HOST:]FILE",
}
# What programs that start ssh say to all hosts with -o.  Here it is settled, whatever they say: nobody is
# asked for anything, and no host but the job's own is believed.
SETTLED = {"batchmode", "passwordauthentication", "stricthostkeychecking", "userknownhostsfile", "loglevel"}

Access = Dict[str, Any]


class Refused(Exception):
    """What is asked for is not done; has an exit status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def proof(access: Access) -> str:
    """What only those know who may know of the job's key; not the key's own secret, which stays here."""
    return hashlib.sha256(access["public"].encode()).hexdigest()


def known_hosts(access: Access) -> str:
    return "%s %s\n" % (ALIAS, access["public"])


def command(program: str, words: List[str], access: Access, directory: str, connect: List[str]) -> List[str]:
    """The ssh or scp that does what ``words`` say.  ``connect`` is the command that makes connections.

    Raises ``Refused``.
    """
    kept, key, words = _options(program, words, access)
    if program == "oarsh":
        if not words:
            raise Refused(NO_OPTION, USAGE[program])
        words = [_host(words[0], access), *words[1:]]
    else:
        if len(words) < 2:
            raise Refused(NO_OPTION, USAGE[program])
        hosts = [_host(host, access) for host in map(_remote, words) if host is not None]
        if len(hosts) > 1:
            # One host of a job need not be able to reach another by itself.
            kept.append("-3")
        words = [
            word if _remote(word) is None else word.rpartition("@")[2] if "@" in _before(word) else word
            for word in words
        ]
    if key is None:
        key = os.environ.get(KEY_VARIABLE) or os.path.join(directory, "key")
    if not os.access(key, os.R_OK):
        raise Refused(NO_JOB, "the key %s cannot be read" % key)
    proxy = " ".join(shlex.quote(word) for word in connect).replace("%", "%%") + " %h"
    options = [
        "User=" + access["user"],
        "IdentityFile=" + _quoted(key),
        "IdentitiesOnly=yes",
        "UserKnownHostsFile=" + _quoted(os.path.join(directory, "known_hosts")),
        "GlobalKnownHostsFile=/dev/null",
        "HostKeyAlias=" + ALIAS,
        "StrictHostKeyChecking=yes",
        "BatchMode=yes",
        "ClearAllForwardings=yes",
        "ForwardAgent=no",
        "PermitLocalCommand=no",
        "ControlMaster=no",
        "ControlPath=none",
        "ServerAliveInterval=60",
        "ProxyUseFdpass=yes",
        "ProxyCommand=" + proxy,
    ]
    if not {"-X", "-Y"} & set(kept):
        options.append("ForwardX11=no")
    if "-v" not in kept:
        options.append("LogLevel=ERROR")
    line = ["ssh" if program == "oarsh" else "scp", "-F", "/dev/null"]
    for option in options:
        line += ["-o", option]
    return line + kept + ["--"] + words


def _options(program: str, words: List[str], access: Access) -> Tuple[List[str], Optional[str], List[str]]:
    """What ssh is given, the file of the key, and what follows the options."""
    kept, key = [], None
    words = list(words)
    while words and words[0].startswith("-") and words[0] != "-":
        word = words.pop(0)
        if word == "--":
            break
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter in ALLOWED[program]:
                kept.append("-" + letter)
                continue
            if letter not in "io" and not (letter == "l" and program == "oarsh"):
                raise Refused(NO_OPTION, "-%s is not an option that %s takes\n%s" % (letter, program, USAGE[program]))
            if not letters and not words:
                raise Refused(NO_OPTION, "-%s lacks its value" % letter)
            value, letters = letters or words.pop(0), ""
            if letter == "i":
                key = value
            elif letter == "o":
                kept += _setting(program, value)
            elif value != access["user"]:
                raise Refused(NO_OPTION, "the job is %s's; nobody else can be become" % access["user"])
    return kept, key, words


def _setting(program: str, text: str) -> List[str]:
    """What ssh is given of a ``-o``."""
    name, _, value = text.replace(" ", "=", 1).partition("=")
    if name.lower() in SETTLED:
        return []
    if name.lower() == "connecttimeout" and value.isdigit():
        return ["-o", "ConnectTimeout=" + value]
    known = "BatchMode, ConnectTimeout, LogLevel, PasswordAuthentication, StrictHostKeyChecking, UserKnownHostsFile"
    raise Refused(NO_OPTION, "-o %s is not for jobs; %s takes %s" % (text, program, known))


def _host(word: str, access: Access) -> str:
    """The host that a word names, if the job has it."""
    user, _, host = word.rpartition("@")
    if user and user != access["user"]:
        raise Refused(NO_OPTION, "the job is %s's; nobody else can be become" % access["user"])
    if host not in access["hosts"]:
        job, hosts = access["name"].partition(".")[0], ", ".join(sorted(access["hosts"]))
        raise Refused(NO_HOST, "%s is not a host of job %s, which has %s" % (host, job, hosts))
    return host


def _before(word: str) -> str:
    return word.partition(":")[0]


def _remote(word: str) -> Optional[str]:
    """Whose file an operand of scp names; None when it is here."""
    before = _before(word)
    return before if ":" in word and "/" not in before else None


def _quoted(path: str) -> str:
    return '"%s"' % path.replace("%", "%%")


def check_names(program: str, line: List[str]) -> None:
    """Raises ``Refused`` where a host in ``line`` has no known address: ssh needs three lines to say so."""
    words = line[line.index("--") + 1 :]
    hosts = words[:1] if program == "oarsh" else [host for host in map(_remote, words) if host is not None]
    for host in hosts:
        try:
            socket.getaddrinfo(host, None)
        except OSError as error:
            raise Refused(NO_HOST, "%s cannot be reached: %s" % (host, error.strerror)) from error


def connect(access: Access, host: str) -> None:
    """Give ssh, which waits for it on stdout, a connection to the job's sshd on ``host``.

    Raises ``Refused``.
    """
    try:
        link = socket.create_connection((host, access["hosts"][host]), CONNECT_S)
        link.sendall(("oarsh %s %s\n" % (access["name"], proof(access))).encode())
        answer = b""
        while not answer.endswith(b"\n"):
            # Not a byte more: what follows is for ssh.
            part = link.recv(1)
            if not part:
                raise Refused(NO_HOST, "%s: nothing answers there for job %s" % (host, access["name"]))
            answer += part
    except (OSError, KeyError) as error:
        raise Refused(NO_HOST, "%s cannot be reached: %s" % (host, error)) from error
    if answer != b"go\n":
        raise Refused(NO_HOST, "%s: %s" % (host, answer.decode(errors="replace").strip()))
    link.settimeout(None)
    ssh = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=os.dup(1))
    ssh.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", link.fileno()))])


def load(path: str) -> Access:
    """Raises ``Refused``."""
    try:
        with open(path) as file:
            found = json.load(file)
        return dict(found)
    except (OSError, ValueError, TypeError) as error:
        raise Refused(NO_JOB, "the access to the job, %s, cannot be read: %s" % (path, error)) from error


def run_in_job(program: str, words: List[str], myself: List[str]) -> None:
    """Become the ssh that reaches another host of the job that this runs in.  Raises ``Refused``."""
    path = os.environ.get(VARIABLE)
    if not path:
        raise Refused(
            NO_JOB, "not in a job that has other hosts; OAR_JOB_ID=… %s works where oarpy is installed" % program
        )
    connector = [*myself, "--connect", path]
    line = command(program, words, load(path), os.path.dirname(path), connector)
    check_names(program, line)
    try:
        os.execvp(line[0], line)
    except OSError as error:
        raise Refused(NO_JOB, "%s cannot be run: %s" % (line[0], error.strerror)) from error


def main(arguments: List[str]) -> int:
    program = os.path.basename(arguments[0])
    if program not in ALLOWED:
        program = "oarsh"
    try:
        if arguments[1:2] == ["--connect"] and len(arguments) == 4:
            connect(load(arguments[2]), arguments[3])
        else:
            run_in_job(program, arguments[1:], [os.path.abspath(arguments[0])])
    except Refused as refusal:
        print("%s: %s" % (program, refusal), file=sys.stderr)
        return refusal.status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
