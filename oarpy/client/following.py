"""Shows what a job writes while it writes it, from the file itself, as whoever looks may read it."""

from __future__ import annotations

import os
from collections.abc import Callable

_BLOCK = 2**16


class Follower:
    """Passes on what is added to the file at ``path``, from its beginning."""

    def __init__(self, path: str, write: Callable[[bytes], object]) -> None:
        self.path = path
        #: Why it cannot be read; None once it could be.
        self.problem: str | None = "it does not exist"
        self._write = write
        self._inode: int | None = None
        self._read = 0

    def step(self) -> None:
        """Pass on what is new; a file that is not there (yet) has nothing."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            if self._inode is None:
                self.problem = (error.strerror or str(error)).lower()
            return
        try:
            status = os.fstat(descriptor)
            # A file of another job's that had this name, or one that was emptied, is begun anew.
            if status.st_ino != self._inode or status.st_size < self._read:
                self._inode, self._read = status.st_ino, 0
            self.problem = None
            # A fault of whoever reads what is written is not the file's.
            while data := self._more(descriptor):
                self._write(data)
                self._read += len(data)
        finally:
            os.close(descriptor)

    def _more(self, descriptor: int) -> bytes:
        try:
            return os.pread(descriptor, _BLOCK, self._read)
        except OSError as error:
            # What is no file cannot be followed: a pipe, a directory.
            self.problem = (error.strerror or str(error)).lower()
            return b""
