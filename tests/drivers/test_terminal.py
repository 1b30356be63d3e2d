"""The server of a terminal, spoken with directly."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress

import pytest

from oarpy.node import terminal
from oarpy.node.terminal import Frames, frame

HELLO = frame(b"h", json.dumps({"rows": 24, "columns": 80, "keep": True, "environment": {}}).encode())


@pytest.fixture
def name() -> Iterator[str]:
    """A terminal that is served, and on which a cat will run."""
    name = f"oarpy-test/{uuid.uuid4()}"
    with subprocess.Popen(
        [sys.executable, "-I", "-S", terminal.__file__, "serve", "stty -echo; echo ready; cat"],
        env={"OAR_TERMINAL": name},
    ) as server:
        try:
            yield name
        finally:
            server.kill()


def shown(link: socket.socket, awaited: bytes) -> bytes:
    """What the terminal shows, until ``awaited`` is among it or the link ends."""
    link.settimeout(20)
    frames, found = Frames(), b""
    while awaited not in found and (data := link.recv(65536)):
        found += b"".join(content for kind, content in frames.feed(data) if kind == b"d")
    return found


@pytest.mark.parametrize("size", [b"3", b"[3]", b"[1, 2, 3]", b"{}", b"x", b"null", b"[0, -1]", b'["a", "b"]'])
def test_a_size_that_is_none_harms_no_shell(name, size):
    with terminal.connected(name) as first:
        first.sendall(HELLO)
        assert b"ready" in shown(first, b"ready")
        first.sendall(frame(b"w", size) + frame(b"d", b"once\n"))
        # It is heeded, or the link ends; before that the server has not seen it.
        with suppress(ConnectionResetError):
            shown(first, b"once\r\n")

        with terminal.connected(name) as second:
            second.sendall(HELLO + frame(b"d", b"still there\n"))
            assert b"still there\r\n" in shown(second, b"still there\r\n")
