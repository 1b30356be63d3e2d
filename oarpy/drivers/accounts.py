"""Which accounts are people's, and which are the system's."""

from __future__ import annotations

import os
import pwd
import time
from contextlib import suppress

_LOGIN_DEFS = "/etc/login.defs"
#: Nobody's, whatever the least id of a person is.
_NOBODY = (65534, 65535)
#: A name service may be slow, and an account hardly ever changes.
_KEPT_S = 60.0
_KEPT = 10_000


class Accounts:
    """The accounts of this machine; those below ``min_uid`` are the system's, by default those of login.defs."""

    def __init__(self, min_uid: int | None = None) -> None:
        self._min_uid = min_uid
        self._known: dict[str, tuple[float, bool]] = {}

    def run_no_jobs(self, login: str) -> bool:
        """Whether oarexec, run by root, would refuse ``login``; False where this machine does not know it."""
        until, answer = self._known.get(login, (0.0, False))
        if until < time.monotonic():
            if len(self._known) >= _KEPT:
                self._known.clear()
            answer = self._looked_up(login)
            self._known[login] = (time.monotonic() + _KEPT_S, answer)
        return answer

    def is_of_system(self, account: pwd.struct_passwd) -> bool:
        """Whether ``account`` is root's, a daemon's or nobody's."""
        return account.pw_uid < max(1, self._least_uid()) or account.pw_uid in _NOBODY

    def _looked_up(self, login: str) -> bool:
        # Without root an instance serves its owner alone, whatever account that is.
        if os.geteuid() != 0:
            return False
        try:
            return self.is_of_system(pwd.getpwnam(login))
        except (KeyError, ValueError):
            return False

    def _least_uid(self) -> int:
        if self._min_uid is None:
            self._min_uid = _least_uid()
        return self._min_uid


def _least_uid() -> int:
    """UID_MIN of login.defs, else 1000."""
    with suppress(OSError, ValueError), open(_LOGIN_DEFS, encoding="utf-8") as file:
        for line in file:
            if line.split()[:1] == ["UID_MIN"]:
                return int(line.split()[1])
    return 1000
