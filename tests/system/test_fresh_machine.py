"""The README's two commands on a Debian that has python3 alone.

Takes minutes and the network, so it runs only when asked for: ``tools/test -m chroot``.
Needs root and debootstrap, which uses the machine's own mirror and certificates.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.chroot,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("debootstrap") is None, reason="needs debootstrap"),
]
REPOSITORY = Path(__file__).parents[2]
SUITE = os.environ.get("OARPY_TEST_SUITE", "bookworm")
MOUNTS = ("proc", "sys", "dev")
#: How this machine reaches its package index, which the bare one has to reach too.
NETWORK = ("etc/resolv.conf", "etc/hosts", "etc/pip.conf")
#: Not the usual place: the packages that the bare machine gets write that one anew.
CERTIFICATES = "etc/ssl/this_machine.crt"


@pytest.fixture(scope="module")
def machine() -> Iterator[Path]:
    """The root of a bare Debian with a clone of the repository in /srv/oarpy."""
    root = Path(tempfile.mkdtemp(prefix="oarpy-chroot-"))
    root.chmod(0o755)
    subprocess.run(["debootstrap", "--variant=minbase", "--include=python3", SUITE, root], check=True)
    for name in NETWORK:
        if Path("/", name).exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path("/", name), root / name)
    (root / CERTIFICATES).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile("/etc/ssl/certs/ca-certificates.crt", root / CERTIFICATES)
    mounted = []
    try:
        for name in MOUNTS:
            (root / name).mkdir(exist_ok=True)
            subprocess.run(["mount", "--rbind", f"/{name}", root / name], check=True)
            subprocess.run(["mount", "--make-rslave", root / name], check=True)
            mounted.append(root / name)
        for place in _local_indexes():
            (root / place.relative_to("/")).mkdir(parents=True)
            subprocess.run(["mount", "--bind", place, root / place.relative_to("/")], check=True)
            mounted.append(root / place.relative_to("/"))
        subprocess.run(["git", "clone", "--quiet", REPOSITORY, root / "srv/oarpy"], check=True)
        yield root
        inside(root, "/srv/oarpy/.venv/bin/oarpy", "down")
    finally:
        for place in reversed(mounted):
            subprocess.run(["umount", "--recursive", "--lazy", place], check=True)
        # What may still be mounted there is this machine's.
        subprocess.run(["rm", "-rf", "--one-file-system", root], check=True)


def _local_indexes() -> list[Path]:
    """Directories of packages that this machine's pip is told of."""
    said = subprocess.run(["pip", "config", "list"], capture_output=True, text=True, check=False).stdout
    found = {Path(path) for path in re.findall(r"(?:file://|['\s])(/[^\s']+)", said)}
    return sorted(path for path in found if path.is_dir())


def inside(
    root: Path, *command: str, account: str = "root", environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``command`` in the chroot, with nothing of this process's environment but the way to the network."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.endswith("_proxy")}
    kept |= {"PIP_CERT": f"/{CERTIFICATES}", "SSL_CERT_FILE": f"/{CERTIFICATES}"}
    home = "/root" if account == "root" else f"/home/{account}"
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return subprocess.run(
        ["chroot", f"--userspec={account}", root, *command],
        env={**kept, "PATH": path, "HOME": home, "LANG": "C.UTF-8", **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def test_up_as_root_runs_a_first_batch_and_finds_it_all_when_run_again(machine):
    first = inside(machine, "/srv/oarpy/tools/up")
    again = inside(machine, "/srv/oarpy/tools/up")

    for said in (first, again):
        assert said.returncode == 0, said.stdout
        assert len(re.findall(r"^\d+ primes from \d+ to \d+$", said.stdout, re.MULTILINE)) == 4
    assert "database   /var/lib/oarpy/run/postgresql, started" in first.stdout
    assert "database   /var/lib/oarpy/run/postgresql, already running" in again.stdout


def test_up_as_an_ordinary_user_makes_an_instance_of_their_own(machine):
    inside(machine, "useradd", "--create-home", "carol")
    inside(machine, "cp", "-r", "/srv/oarpy", "/home/carol/oarpy")
    inside(machine, "rm", "-rf", "/home/carol/oarpy/.venv")
    inside(machine, "chown", "-R", "carol:", "/home/carol/oarpy")
    own = {"OARPY_HOME": "/home/carol/instance", "USER": "carol"}

    said = inside(machine, "/home/carol/oarpy/tools/up", account="carol", environment=own)
    inside(machine, "/home/carol/oarpy/.venv/bin/oarpy", "down", account="carol", environment=own)

    assert said.returncode == 0, said.stdout
    assert len(re.findall(r"^\d+ primes from \d+ to \d+$", said.stdout, re.MULTILINE)) == 4


def test_the_tests_run_as_root_and_as_an_ordinary_user(machine):
    as_root = inside(machine, "/srv/oarpy/tools/test", "-q", "tests/unit", "tests/database")
    as_user = inside(machine, "/home/carol/oarpy/tools/test", "-q", "tests/unit", "tests/database", account="carol")

    for said in (as_root, as_user):
        assert said.returncode == 0, said.stdout[-4000:]
        assert re.search(r"^\d+ passed", said.stdout.splitlines()[-1])
