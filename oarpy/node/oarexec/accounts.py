"""The accounts that jobs run as."""

import os
import pwd
from typing import Dict, Optional, Tuple

from .files import read_text
from .host import clock
from .protocol import Refusal


def login_defs() -> Dict[str, str]:
    words = {}
    for line in (read_text("/etc/login.defs") or "").splitlines():
        fields = line.split(None, 1)
        if len(fields) == 2 and not fields[0].startswith("#"):
            words[fields[0]] = fields[1].strip()
    return words


class Account:
    """Who runs a job, and the environment of a login."""

    def __init__(self, entry: pwd.struct_passwd, path: str) -> None:
        self.name = entry.pw_name
        self.uid = entry.pw_uid
        self.groups = [entry.pw_gid]
        self.groups += [gid for gid in os.getgrouplist(entry.pw_name, entry.pw_gid) if gid != entry.pw_gid]
        self.shell = entry.pw_shell or "/bin/sh"
        self.environment = {
            "HOME": entry.pw_dir,
            "PATH": path,
            "SHELL": self.shell,
            "LOGNAME": self.name,
            "USER": self.name,
        }


class Accounts:
    """Resolves users by name; refuses those that may not run jobs."""

    # A name service may be slow, and an account hardly ever changes.
    KEPT_S = 60.0

    def __init__(self, min_uid: Optional[int]) -> None:
        defs = login_defs()
        self._min_uid = min_uid if min_uid is not None else int(defs.get("UID_MIN", "1000"))
        path = defs.get("ENV_PATH", "PATH=/usr/local/bin:/usr/bin:/bin")
        self._path = path[len("PATH=") :] if path.startswith("PATH=") else path
        self._known: Dict[Optional[str], Tuple[float, Account]] = {}

    def find(self, name: Optional[str]) -> Account:
        until, account = self._known.get(name, (0.0, None))
        if account is None or until < clock():
            account = self._look_up(name)
            self._known[name] = (clock() + self.KEPT_S, account)
        return account

    def _look_up(self, name: Optional[str]) -> Account:
        myself = os.geteuid()
        try:
            found = pwd.getpwuid(myself) if name is None else pwd.getpwnam(name)
        except (KeyError, ValueError):
            raise Refusal("USER_UNKNOWN", "this host knows no account %s" % (name or myself)) from None
        if myself != 0 and found.pw_uid != myself:
            raise Refusal(
                "USER_REFUSED", "without root this host runs jobs of user id %d alone, not of %s" % (myself, name)
            )
        if myself == 0 and (found.pw_uid < max(1, self._min_uid) or found.pw_uid in (65534, 65535)):
            raise Refusal("USER_REFUSED", "jobs of system accounts are not run: %s" % found.pw_name)
        return Account(found, self._path)
