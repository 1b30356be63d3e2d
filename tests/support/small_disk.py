"""A file system of one MiB, which a test fills, empties and closes to writing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support import accounts


class SmallDisk:
    """A mounted file system; what fills it lies in a directory of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"
        self._ballast.mkdir()

    def fill(self, what: str) -> None:
        """Leave no room for ``bytes``, or for ``files``."""
        with pytest.raises(OSError, match="No space left"):
            self._take_bytes() if what == "bytes" else self._take_files()

    def _take_bytes(self) -> None:
        (self._ballast / "bytes").write_bytes(b"x" * (2 << 20))

    def _take_files(self) -> None:
        for number in range(1000):
            (self._ballast / str(number)).touch()

    def empty(self) -> None:
        """Give the room back."""
        for path in self._ballast.iterdir():
            path.unlink()

    def remount(self, mode: str) -> None:
        """``ro`` or ``rw``; nothing may be open for writing."""
        subprocess.run(["mount", "-o", f"remount,{mode}", str(self.path)], check=True)


@contextmanager
def small_disk(path: Path) -> Iterator[SmallDisk]:
    """A small file system at the directory ``path``; skips the test where none can be mounted."""
    accounts.root()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=200,mode=755", "oarpy-test", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        with suppress(FileNotFoundError):
            # Processes of the test may still be in it.
            subprocess.run(["umount", "--lazy", str(path)], check=True)
