"""How hosts come by oarexec, whatever Python they have."""

from __future__ import annotations

import compileall
import io
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from py_compile import PycInvalidationMode

import pytest

from oarpy import node
from oarpy.drivers import oarexec_program
from oarpy.drivers.oarexec_program import _Program
from oarpy.model.states import EndCause
from tests.support.node import a_node


def rewritten(change: Callable[[str, bytes], bytes | None], whole: bytes) -> bytes:
    """The zip with other contents of its files; without those of which nothing is left."""
    data = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(data, "w") as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return data.getvalue()


@pytest.fixture
def another_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is of another Python than its hosts."""
    ours = oarexec_program._program()
    monkeypatch.setattr(oarexec_program, "_program", lambda: _Program(ours.archive, ours.digest, "cpython-00"))


def test_the_same_installation_always_makes_the_same_bytes() -> None:
    program = "import sys; from oarpy.drivers.oarexec_program import archive; sys.stdout.buffer.write(archive())"

    said = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, stdout=subprocess.PIPE, check=True
        ).stdout
        for seed in "123"
    }

    assert len(said) == 1


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another one, of which nothing is compiled and nothing will be."""
    copy = tmp_path / "oarexec"
    shutil.copytree(node.path("oarexec"), copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(node, "path", lambda program: copy)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return copy


@pytest.mark.parametrize("mode", PycInvalidationMode)
def test_what_the_installation_has_compiled_is_sent_beside_the_sources(installation, tmp_path, mode):
    compileall.compile_dir(installation, quiet=1, invalidation_mode=mode)
    program = oarexec_program._program.__wrapped__()
    path = tmp_path / "oarexec.zip"
    path.write_bytes(rewritten(lambda name, content: None if name == "oarexec/doctor.py" else content, program.archive))

    assert program.compiled_for == sys.implementation.cache_tag
    subprocess.run([sys.executable, "-I", "-S", path, "doctor", "--spool", tmp_path], check=True)


def test_what_is_compiled_for_another_python_is_passed_over(installation, tmp_path):
    compileall.compile_dir(installation, quiet=1)
    whole = oarexec_program._program.__wrapped__().archive
    path = tmp_path / "oarexec.zip"
    path.write_bytes(rewritten(lambda name, code: b"\0\0\r\n" + code[4:] if name.endswith("c") else code, whole))

    words = [sys.executable, "-I", "-S", path, "doctor", "--spool", tmp_path]
    said = subprocess.run(words, stdout=subprocess.PIPE, check=True)

    assert json.loads(said.stdout)["spool"]["path"] == str(tmp_path)


def test_where_the_installation_has_something_compiled_of_another_source_the_sources_are_sent(installation):
    compileall.compile_dir(installation, quiet=1)
    with (installation / "doctor.py").open("a") as file:
        file.write("# changed\n")

    program = oarexec_program._program.__wrapped__()

    assert program.compiled_for == ""
    with zipfile.ZipFile(io.BytesIO(program.archive)) as sent:
        assert [name for name in sent.namelist() if not name.endswith(".py")] == []


@pytest.mark.parametrize("kind", ["as its user", "over ssh"])
def test_a_host_with_another_python_compiles_it_once(another_python, kind):
    with a_node(kind) as host:
        assert (host.run("true").cause, host.run("exit 3", job_id=2).status) == (EndCause.EXIT, 3 << 8)
        programs = {path: path.stat().st_mtime_ns for path in (host.spool / "program").iterdir()}
        host.disconnect()
        host.kill_guard()
        host.connect()

        assert host.run("exit 4", job_id=3).status == 4 << 8
        assert len(programs) == 2
        assert {path: path.stat().st_mtime_ns for path in (host.spool / "program").iterdir()} == programs
