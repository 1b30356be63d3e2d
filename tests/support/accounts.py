"""Accounts to run things as: root's tests need ordinary users, everybody else's have one only."""

from __future__ import annotations

import fcntl
import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

ALICE = "oartest1"
BOB = "oartest2"


def account(name: str) -> pwd.struct_passwd:
    """The account ``name``, made when it is missing; skips the test unless root runs it."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to act as somebody else")
    with _changing_accounts():
        try:
            return pwd.getpwnam(name)
        except KeyError:
            subprocess.run(["useradd", "--create-home", "--shell", "/bin/bash", name], check=True)
            return pwd.getpwnam(name)


def remove_account(name: str) -> None:
    """The account and its home."""
    with _changing_accounts():
        subprocess.run(["userdel", "--remove", name], check=True, capture_output=True)


@contextmanager
def _changing_accounts() -> Iterator[None]:
    """One at a time: other tests of the run need the same accounts at the same moment."""
    with open(Path(tempfile.gettempdir()) / "oarpy-test-accounts.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def submitter() -> pwd.struct_passwd:
    """Who may have jobs here: the account that runs the tests, or an ordinary one when root does."""
    return account(ALICE) if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())


def switched(user: pwd.struct_passwd, command: Sequence[str]) -> list[str]:
    """``command``, to be run as ``user``."""
    if os.geteuid() == user.pw_uid:
        return list(command)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups", "--", *command]


def environment_of(user: pwd.struct_passwd, base: Mapping[str, str]) -> dict[str, str]:
    """``base`` as it would look after ``user`` logged in."""
    return {**base, "HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name, "SHELL": user.pw_shell}


def root() -> pwd.struct_passwd:
    """The super-user; skips the test unless root runs it."""
    return account("root")
