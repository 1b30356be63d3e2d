"""What holds for all jobs of a guard."""

import os
from typing import List, Optional

from .containment import find_containment
from .entries import Entry
from .host import boot_id, find_program, uptime_offset
from .wrappers import chroot_as, make_hidden_shell


class Site:
    """The host as its guard finds it, and the directory of its instance, which is the current one.

    Nothing in it changes while the guard lives.
    """

    def __init__(self, spool: str, instance: str, options: List[str]) -> None:
        self.spool = spool
        self.instance = instance
        # Of the command line that began this guard, for what it begins.
        self.options = options
        self.directory = os.path.join(spool, instance)
        self.root = os.geteuid() == 0
        self.boot_id = boot_id()
        self.offset = uptime_offset()
        self.containment, self.weakness = find_containment(instance)
        self.setpriv = find_program("setpriv")
        os.chdir(self.directory)
        self._chroot: Optional[str] = make_hidden_shell() if self.root else None

    def changing_to(self, entry: Entry) -> List[str]:
        """The words in front of a command that root runs as the user of an entry."""
        # Groups are numbers: setpriv --init-groups would ask the name service for each job.
        who = ["--reuid", str(entry.uid), "--regid", entry.groups.partition(",")[0], "--groups", entry.groups]
        return [str(self.setpriv), *who, "--"]

    def shell_as(self, entry: Entry) -> List[str]:
        """The same with a shell that the user gets no hold of, where there is one."""
        if self._chroot is None:
            return [*self.changing_to(entry), "/bin/sh"]
        return [self._chroot, *chroot_as(entry.uid, entry.groups), "./sh"]

    def path(self, entry: Entry, name: str) -> str:
        """The whole path of a file of an entry."""
        return os.path.join(self.directory, entry.path(name))
