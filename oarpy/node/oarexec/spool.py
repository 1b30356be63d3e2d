"""The spool as one guard has it: what it knows of each launch, and what it writes."""

import errno
import json
import os
from contextlib import suppress
from typing import Dict, Optional, Tuple

from .entries import Entry
from .files import (
    SharedFiles,
    append_line,
    complain,
    open_progress,
    overwrite_durably,
    read_text,
    remove_tree,
    sync_directory,
    trouble,
    write_durably,
    write_file,
    write_line,
)
from .protocol import Key, Number

# Making and removing files is what a launch costs most on some file systems.
KEPT_FREE = 1000
RETRY_S = 2.0


class Spool:
    """Owns the entries, their directories, and the number of the last session.

    Whoever changes what is to be reported of an entry says so (``tell``).  A spool that cannot be written stops
    launches alone: what cannot be noted of a job is known to this guard.
    """

    def __init__(self, boot_id: str, *, root: bool) -> None:
        self._boot_id = boot_id
        self._mode = 0o711 if root else 0o700
        self.entries: Dict[Key, Entry] = {}
        # What is to be reported.
        self.changed: Dict[Key, Entry] = {}
        self.shared = SharedFiles("shared")
        self.shared.clear()
        self._free = os.listdir("free")
        self.id = (read_text("spool_id") or "").strip()
        if not self.id:
            self.id = os.urandom(16).hex()
            write_durably(".", "spool_id", self.id + "\n")
        words = (read_text("session") or "0 0").split()
        self.number: Number = (int(words[0]), int(words[1]))
        # That of an earlier boot stays there until a session is greeted, which is after all entries were looked at.
        self.rebooted = words[2:] not in ([], [boot_id])

    def tell(self, entry: Entry) -> None:
        self.changed[entry.key] = entry

    def store_number(self, number: Number) -> None:
        text = "%d %d %s\n" % (number[0], number[1], self._boot_id)
        try:
            write_durably(".", "session", text)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            overwrite_durably("session", text)
        self.number = number

    def make_entry(self, job: int, attempt: int, number: Number) -> Optional[Entry]:
        """The entry, new; None when the attempt has one already, or can have none, which is reported."""
        known = self.entries.get((job, attempt))
        if known is not None:
            self.tell(known)
            return None
        entry = Entry(job, attempt, number)
        self.entries[entry.key] = entry
        try:
            if self._free:
                os.rename("free/" + self._free.pop(), "jobs/" + entry.name)
            else:
                os.mkdir("jobs/" + entry.name, self._mode)
        except OSError as error:
            entry.trouble = trouble(error)
            entry.state = Entry.REFUSED
            self.tell(entry)
            return None
        return entry

    def sync(self) -> None:
        """Let the entries that were made outlive a power cut."""
        sync_directory("jobs")

    def begin_progress(self, entry: Entry) -> None:
        """Let the lines of an entry of which nothing is known begin as those of a launch do."""
        try:
            fd = open_progress(entry.path("progress"))
            try:
                write_line(fd, "launch " + json.dumps(entry.record()))
            finally:
                os.close(fd)
        except OSError as error:
            complain("job %s: %s" % (entry.name, trouble(error)))

    def append(self, entry: Entry, line: str) -> bool:
        """Add a line to the progress; False when it cannot be written, so that only this guard knows."""
        try:
            append_line(entry.path("progress"), line)
        except OSError as error:
            complain("job %s: %s" % (entry.name, trouble(error)))
            return False
        return True

    def write_end(self, entry: Entry) -> bool:
        """Note what is known of the end; False when that must be tried again."""
        return self.entries.get(entry.key) is not entry or self.append(entry, "end " + json.dumps(entry.end))

    def make_tombstone(self, entry: Entry) -> None:
        try:
            write_file(entry.path("refused"), "%d %d\n" % self.number)
        except OSError as error:
            # Another guard will see that it never began.
            complain("job %s: %s" % (entry.name, trouble(error)))

    def forget(self, entry: Optional[Entry], number: Number) -> Tuple[bool, str]:
        """Remove the entry of what is over, at the order of a session with that number."""
        if entry is None:
            return True, ""
        if not entry.over:
            return False, "the job is not over"
        if entry.number >= number:
            return False, "the entry belongs to this very session"
        try:
            self._clear_away(entry)
        except OSError as error:
            return False, trouble(error)
        del self.entries[entry.key]
        self.changed.pop(entry.key, None)
        return True, ""

    def _clear_away(self, entry: Entry) -> None:
        path = "jobs/" + entry.name
        if len(self._free) < KEPT_FREE and entry.pid is not None and entry.state == Entry.ENDED:
            # Its first line names this attempt, so that nothing in it counts for another one.
            with suppress(OSError):
                # But for one of the same name, of a part that was made twice.
                os.rename(path, "free/" + entry.name)
                self._free.append(entry.name)
                return
        # One that the spool could not take has no directory.
        with suppress(FileNotFoundError):
            remove_tree(path)
