"""An X server without a screen, for programs that show something."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

SERVER = ("Xvfb", "-screen", "0", "320x200x24", "-nolisten", "tcp", "-noreset")


@contextmanager
def a_display(user: pwd.struct_passwd) -> Iterator[Mapping[str, str]]:
    """The variables by which ``user`` finds a display that nobody else may use."""
    directory = Path(tempfile.mkdtemp(prefix="oarpy-display-"))
    cookies = directory / "cookies"
    cookie = os.urandom(16).hex()
    try:
        _add(cookies, ":0", cookie)
        read, write = os.pipe()
        server = subprocess.Popen(
            [*SERVER, "-auth", str(cookies), "-displayfd", str(write)], pass_fds=[write], stderr=subprocess.DEVNULL
        )
        os.close(write)
        try:
            with os.fdopen(read) as told:
                name = f":{int(told.readline())}"
            _add(cookies, name, cookie)
            for path in (directory, cookies):
                os.chown(path, user.pw_uid, user.pw_gid)
            yield {"DISPLAY": name, "XAUTHORITY": str(cookies)}
        finally:
            server.terminate()
            server.wait(timeout=30)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _add(cookies: Path, name: str, cookie: str) -> None:
    subprocess.run(["xauth", "-q", "-f", str(cookies), "add", name, ".", cookie], check=True, stderr=subprocess.DEVNULL)
