"""The server of a terminal, spoken with directly."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

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
    link.settimeout(60)
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


class Carried:
    """Speaks with a terminal by way of ``attach``, as clients on other hosts do."""

    def __init__(self, name: str, environment: dict[str, str]) -> None:
        command = [sys.executable, "-I", "-S", terminal.__file__, "attach"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment)
        self.frames = Frames()
        self.send(f"{name}\n".encode())

    def send(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def shown(self, enough: Callable[[bytes], bool]) -> bytes:
        """What the terminal shows, until it is enough or the link ends."""
        assert self.process.stdout is not None
        found = b""
        while not enough(found):
            assert select.select([self.process.stdout], [], [], 60)[0], f"nothing more after {len(found)} bytes"
            if not (data := os.read(self.process.stdout.fileno(), 65536)):
                break
            found += b"".join(content for kind, content in self.frames.feed(data) if kind == b"d")
        return found


@pytest.fixture
def carried(name: str) -> Iterator[Callable[..., Carried]]:
    made = []

    def make(**environment: str) -> Carried:
        made.append(Carried(name, environment))
        return made[-1]

    yield make
    for one in made:
        one.process.kill()
        one.process.communicate()


def test_what_is_shown_gets_through_while_much_is_typed(carried: Callable[..., Carried]) -> None:
    """A command that writes as much as it reads: who only sends and who only hears would wait for each other."""
    me = carried()
    me.send(HELLO)
    me.shown(lambda found: b"ready\r\n" in found)
    block = b"x" * 4000 + b"\n"
    typing = threading.Thread(target=lambda: [me.send(frame(b"d", block)) for _ in range(1000)], daemon=True)

    typing.start()
    shown = me.shown(lambda found: found.count(b"\n") == 1000)

    assert shown.replace(b"\r", b"") == block * 1000
    typing.join(60)
    assert not typing.is_alive()


@pytest.mark.parametrize(
    ("here", "there", "seen"),
    [
        ({"DISPLAY": ":0", "XAUTHORITY": "/x"}, {"DISPLAY": "localhost:10.0"}, b"localhost:10.0--xterm"),
        ({"DISPLAY": ":0", "XAUTHORITY": "/x"}, {}, b"--xterm"),
    ],
)
def test_the_display_is_the_one_that_was_forwarded(
    tmp_path: Path, here: dict[str, str], there: dict[str, str], seen: bytes
) -> None:
    name = f"oarpy-test/{uuid.uuid4()}"
    serve = [sys.executable, "-I", "-S", terminal.__file__, "serve", "echo =$DISPLAY-$XAUTHORITY-$TERM="]
    with subprocess.Popen(serve, env={"OAR_TERMINAL": name}):
        me = Carried(name, there)
        hello = {"rows": 24, "columns": 80, "environment": {**here, "TERM": "xterm"}}
        me.send(frame(b"h", json.dumps(hello).encode()))

        assert b"=" + seen + b"=" in me.shown(lambda found: found.endswith(b"=\r\n"))
        me.process.communicate(timeout=60)


@pytest.mark.parametrize(
    "said", [b"d\0\0\0\1x", b"h\0\0\0\2{}", b"h\0\0\0\2[]", b"h\0\0\0\1x", b"h\xff\xff\xff\xffx", b""]
)
def test_who_says_no_hello_is_told_so(name: str, said: bytes) -> None:
    me = Carried(name, {})

    _, errors = me.process.communicate(said, timeout=60)

    assert errors in (b"terminal: no hello\n", b"terminal: the link ended\n")
    assert me.process.returncode == 1
