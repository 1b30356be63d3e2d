"""How the terminal of an interactive job is named, and how its program gets to where it runs."""

from __future__ import annotations

import base64
import zlib

#: The advisory lock of who waits for job N is this and N.
CLIENT_LOCKS = 1 << 62


def terminal_name(token: str) -> str:
    """The abstract socket of the terminal with this token."""
    return f"oarpy/{token}"


def python_words(python: str, program: bytes) -> list[str]:
    """The first words of a command line that holds all of ``program``; its arguments follow."""
    packed = base64.b64encode(zlib.compress(program, 9)).decode()
    loader = f"import base64, zlib; exec(zlib.decompress(base64.b64decode({packed!r})))"
    return [python, "-I", "-S", "-c", loader]
