"""Files of the spool, and others."""

import errno
import json
import os
import stat
import struct
from contextlib import suppress
from typing import Dict, Optional

from .protocol import MAX_TEXT, Json

KEPT_SHARED_BYTES = 4 << 20
NAME_MAX = 255
#: So much of a path is shown in a sentence.
SHOWN_PATH = 120


class SpoolFailed(Exception):
    """The spool cannot take what a launch has to leave in it."""


def read_text(path: str) -> Optional[str]:
    """The contents of a file, None when there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        data = part = os.read(fd, 65536)
        while part:
            part = os.read(fd, 65536)
            data += part
    finally:
        os.close(fd)
    return data.decode("utf-8", "surrogateescape")


def write_file(path: str, text: str, mode: int = 0o600) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        data = text.encode("utf-8", "surrogateescape")
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)


def renew(path: str, text: str, mode: int) -> None:
    """Let a file say ``text``; who reads it meanwhile reads the whole of one or the other."""
    if read_text(path) != text:
        write_file(path + ".new", text, mode)
        os.rename(path + ".new", path)


def append_line(path: str, line: str) -> None:
    """Append in one write, so that lines of wrapper and guard never mix."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        write_line(fd, line)
    finally:
        os.close(fd)


def write_line(fd: int, line: str) -> None:
    data = (line + "\n").encode("utf-8", "surrogateescape")
    if os.write(fd, data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def complain(text: str) -> None:
    """Say something in the guard's log, unless that cannot be written either."""
    with suppress(OSError):
        os.write(2, (text.rstrip("\n") + "\n").encode("utf-8", "surrogateescape"))


def complain_of(error: BaseException) -> None:
    """Say there what nobody has expected."""
    import traceback  # 0.5 MiB for which there is seldom a use

    complain("".join(traceback.format_exception(type(error), error, error.__traceback__)))


def open_progress(path: str) -> int:
    """Open a file of lines anew, for appending.

    What stood in it is cut down to an empty line, not to nothing: a file that is
    emptied and closed is written out by ext4 at once.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    if os.read(fd, 1) == b"\n":
        os.ftruncate(fd, 1)
    else:
        os.ftruncate(fd, 0)
        os.write(fd, b"\n")
    return fd


def sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_durably(directory: str, name: str, text: str) -> None:
    """Replace a file so that after a power cut it holds the old text or the new one."""
    new = os.path.join(directory, name + ".new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, text.encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(new, os.path.join(directory, name))
    sync_directory(directory)


def overwrite_durably(path: str, text: str) -> None:
    """The same for a short text, in the sector that the old one has already: a full disk has no other."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        # What is left of a longer one would follow.
        write_line(fd, text.rstrip("\n").ljust(os.fstat(fd).st_size - 1))
        os.fsync(fd)
    finally:
        os.close(fd)


class SharedFiles:
    """Contents that many launches have alike, each made a file once and linked from then on."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._paths: Dict[str, str] = {}
        self._made = 0

    def clear(self) -> None:
        """Forget what was made; what has been put somewhere stays there."""
        for name in os.listdir(self._directory):
            os.unlink(os.path.join(self._directory, name))
        self._paths.clear()

    def put(self, path: str, text: str) -> None:
        """Let ``path`` be a file that holds ``text``, for everybody to read."""
        with suppress(FileNotFoundError):
            os.unlink(path)
        try:
            os.link(self._path(text), path)
        except OSError:
            # Too many links to one file, or a file system that has none.
            self.clear()
            write_file(path, text, 0o444)

    def _path(self, text: str) -> str:
        path = self._paths.get(text)
        if path is None:
            if sum(map(len, self._paths)) + len(text) > KEPT_SHARED_BYTES:
                self.clear()
            self._made += 1
            path = os.path.join(self._directory, str(self._made))
            write_file(path, text, 0o444)
            self._paths[text] = path
        return path


def parsed(text: Optional[str]) -> Optional[Json]:
    """The JSON object of a file that may have been cut short, None then."""
    try:
        found = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def shortened(path: str) -> str:
    """``path`` as it may stand in a sentence that says more than the path."""
    return path if len(path) <= SHOWN_PATH else path[: SHOWN_PATH - 3] + "..."


def trouble(error: OSError) -> str:
    """What is said of a spool that cannot be written."""
    return ("the spool cannot be written: %s" % (error.strerror or error))[:MAX_TEXT]


def remove_tree(path: str) -> None:
    """Remove a directory with its files, and with those of directories in it."""
    for name in os.listdir(path):
        inner = os.path.join(path, name)
        if os.path.isdir(inner) and not os.path.islink(inner):
            remove_tree(inner)
        else:
            os.unlink(inner)
    os.rmdir(path)


def let_read(path: str, uid: int) -> None:
    """Let one user besides root read a file.

    By an access control list: an owner could write, and fill the disk of the spool.
    Where the file system has none the user becomes the owner.
    """
    everybody = 0xFFFFFFFF
    entries = ((0x01, 6, everybody), (0x02, 4, uid), (0x04, 0, everybody), (0x10, 4, everybody), (0x20, 0, everybody))
    try:
        packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
        os.setxattr(path, "system.posix_acl_access", packed)
    except OSError:
        os.chown(path, uid, -1)
        os.chmod(path, 0o400)


def reachable(path: str) -> bool:
    """Whether every directory down to ``path`` lets everybody pass."""
    while True:
        if not os.stat(path).st_mode & stat.S_IXOTH:
            return False
        if path == "/":
            return True
        path = os.path.dirname(path)
