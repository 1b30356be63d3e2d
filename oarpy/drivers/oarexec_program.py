"""How a host comes by oarexec: as one zip, sent when it does not have this version yet.

The zip holds the sources and, where the installation has them compiled, that too, so
that nothing is compiled on hosts whose Python is the server's.  The same installation always
makes the same bytes; the digest of these is the version.

What begins on the host is a few lines on its python's command line.  They look below the
spool for the version, ask for it where it is missing (``send``), and go on as it.  A host with another
Python compiles the sources once, into a zip of its own beside the one that came.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import struct
import sys
import zipfile
from collections.abc import Sequence
from functools import cache
from importlib.machinery import SourceFileLoader
from importlib.util import MAGIC_NUMBER, cache_from_source, source_hash
from pathlib import Path
from typing import NamedTuple

from oarpy import node

#: What shells and banners may say before the host's own first word.
_PREAMBLE_LINES = 200
# Python 3.6 or later.  It goes on as the same process, so that the link's end ends it.
_BOOTSTRAP = """
import hashlib, os, sys
spool, digest, size, compiled_for = sys.argv[1:5]
place = os.path.join(spool, "program")

def make_place():
    for path in (spool, place):
        if not os.path.isdir(path):
            os.makedirs(path, exist_ok=True)
            os.chmod(path, 0o700 if os.geteuid() else 0o711)
        if os.geteuid() == 0 and ({os.stat(path).st_uid, os.lstat(path).st_uid} != {0} or os.stat(path).st_mode & 0o22):
            raise OSError("it must be root's, and nobody else may write to it")

def right(data):
    return hashlib.sha256(data).hexdigest() == digest

def known(path):
    try:
        with open(path, "rb") as file:
            return right(file.read())
    except FileNotFoundError:
        return False

def received():
    data = b""
    while len(data) < int(size):
        part = os.read(0, int(size) - len(data))
        if not part:
            sys.exit("the link ended")
        data += part
    if not right(data):
        sys.exit("oarexec arrived damaged")
    return data

def put(path, fill):
    mine = "%s.%d" % (path, os.getpid())
    with open(mine, "wb") as file:
        fill(file)
    os.rename(mine, path)

def compiled(path, file):
    import marshal, zipfile
    from importlib.util import MAGIC_NUMBER
    head = MAGIC_NUMBER + bytes(8 if sys.version_info < (3, 7) else 12)
    with zipfile.ZipFile(path) as came, zipfile.ZipFile(file, "w") as made:
        for name in came.namelist():
            if name.endswith(".py"):
                code = compile(came.read(name), os.path.join(path, name), "exec", dont_inherit=True)
                made.writestr(name + "c", head + marshal.dumps(code))

try:
    make_place()
    program = came = os.path.join(place, digest + ".zip")
    if known(came):
        os.write(1, b"oarexec: known\\n")
    else:
        os.write(1, b"oarexec: send\\n")
        data = received()
        put(came, lambda file: file.write(data))
    if sys.implementation.cache_tag != compiled_for:
        program = os.path.join(place, "%s.%x.zip" % (digest, sys.hexversion))
        if not os.path.exists(program):
            put(program, lambda file: compiled(came, file))
except OSError as error:
    sys.exit("oarexec: the spool %s cannot be used: %s" % (spool, error.strerror or error))
sys.path.insert(0, program)
from oarexec.__main__ import main
sys.exit(main(sys.argv[5:]))
"""
# What python finds in the zip when it is run by its path.
_MAIN = b"import sys\n\nfrom oarexec.__main__ import main\n\nsys.exit(main(sys.argv[1:]))\n"


class _Program(NamedTuple):
    archive: bytes
    digest: str
    #: The Python whose compiled files are in it, as the names of such files tell it; empty where there are none.
    compiled_for: str


def archive() -> bytes:
    """The zip, which a python can also run by its path."""
    return _program().archive


@cache
def _program() -> _Program:
    directory = node.path("oarexec")
    sources = sorted(directory.glob("*.py"))
    compiled = [_compiled(source) for source in sources]
    files = {"__main__.py": _MAIN, **{f"oarexec/{source.name}": source.read_bytes() for source in sources}}
    whole = None not in compiled
    if whole:
        files |= {f"oarexec/{source.name}c": code for source, code in zip(sources, compiled, strict=True) if code}
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as made:
        for name, content in files.items():
            made.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    archive = data.getvalue()
    tag = str(sys.implementation.cache_tag) if whole else ""
    return _Program(archive, hashlib.sha256(archive).hexdigest(), tag)


def _compiled(source: Path) -> bytes | None:
    """The source compiled, as the installation has it; None where that has nothing, and nothing can be put there."""
    cached = Path(cache_from_source(str(source)))
    code = _fresh(cached, source)
    if code is None:
        SourceFileLoader(source.stem, str(source)).get_code(source.stem)
        code = _fresh(cached, source)
    # The date of the source is another one in the zip: what is there is never to be compared with it.
    return None if code is None else MAGIC_NUMBER + b"\1" + bytes(11) + code


def _fresh(cached: Path, source: Path) -> bytes | None:
    """What follows the head of a compiled file, when it is the source's (its head as PEP 552 has it)."""
    try:
        data = cached.read_bytes()
    except OSError:
        return None
    status = source.stat()
    dated = int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF
    heads = [struct.pack("<4sIII", MAGIC_NUMBER, 0, *dated)]
    heads += [struct.pack("<4sI8s", MAGIC_NUMBER, flags, source_hash(source.read_bytes())) for flags in (1, 3)]
    return data[16:] if data[:16] in heads else None


def command(python: str, spool: str, arguments: Sequence[str]) -> list[str]:
    """The words that make a python oarexec, with these arguments; ``send_program`` must follow."""
    archive, digest, tag = _program()
    return [python, "-I", "-S", "-c", _BOOTSTRAP, spool, digest, str(len(archive)), tag, *arguments]


async def send_program(process: asyncio.subprocess.Process) -> None:
    """Give the host oarexec, unless it says that it has it."""
    assert process.stdin is not None
    assert process.stdout is not None
    for _ in range(_PREAMBLE_LINES):
        line = await process.stdout.readline()
        if line == b"oarexec: known\n":
            return
        if line == b"oarexec: send\n":
            process.stdin.write(archive())
            await process.stdin.drain()
            return
        if not line:
            raise ConnectionResetError
    raise ValueError("the host said too much")
