"""Keys of jobs that their owner chooses: ``oarsub -k``, ``-i``, ``-e``.  Private keys stay with the user."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from oarpy.errors import RequestRefused, ServerUnavailable
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.payloads import OWN_KEY, Submitted
from oarpy.model.wording import excerpt

#: Where the id of the job goes in the name of a file.
ID = "%jobid%"


class JobKey(NamedTuple):
    """The public key, or ``OWN_KEY``; the private one, and where it has to be written."""

    public: str
    private: str
    file: str | None


def wanted(options: Mapping[str, Any]) -> JobKey:
    """The key that the options ask for; a file that cannot be written is refused before anything is submitted."""
    read, inline, file = options["import_job_key"], options["import_job_key_inline"], options["export_job_key"]
    if read is not None and inline is not None:
        raise _refused("a key comes from a file or from the command line, not from both")
    if file is not None:
        _expect_directory(os.path.dirname(file) or ".", file)
    if file is not None and os.path.lexists(file):
        # It may be the key that its owner has no copy of.
        raise _refused(f"{excerpt(file)} is there already, and is not written over")
    if read is not None:
        private = _read(read)
        return JobKey(_public(read), private, file)
    if inline is None and file is None:
        return JobKey(OWN_KEY, "", None)
    with tempfile.TemporaryDirectory(prefix="oarsub-") as directory:
        path = os.path.join(directory, "key")
        if inline is not None:
            _write(path, inline.replace("\\n", "\n").rstrip("\n") + "\n")
        else:
            _run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path])
        return JobKey(_public(path), _read(path), file)


def _expect_directory(directory: str, file: str) -> None:
    sentence = f"the job's key cannot be written to {excerpt(file)}"
    if not os.path.isdir(directory):
        raise _refused(f"{sentence}: there is no directory {excerpt(directory)}")
    if not os.access(directory, os.W_OK):
        raise _refused(f"{sentence}: the directory does not let you write")


def submitted_with(key: JobKey, submit: Callable[[], Submitted], tell: Callable[[str], None]) -> Submitted:
    """What ``submit`` answers; the private key is then where the options say.

    It is on the disk before anything is asked for, in a file beside: a client that is killed
    before it hears the job's id leaves the key of a job that may run.  When nothing runs, nothing is left.
    """
    if key.file is None:
        return submit()
    beside = f"{key.file.replace(ID, 'job')}.new-{os.urandom(4).hex()}"
    try:
        _write(beside, key.private)
    except OSError as error:
        raise _refused(f"the job's key cannot be written to {excerpt(key.file)}: {error.strerror}") from error
    try:
        answer = submit()
    except (RequestRefused, ServerUnavailable):
        os.unlink(beside)
        raise
    except BaseException:
        tell(f"the key of the job, if there is one, is in {beside!r}")
        raise
    _export(key, key.file, beside, answer.job_ids)
    os.unlink(beside)
    return answer


def _export(key: JobKey, file: str, beside: str, job_ids: Sequence[int]) -> None:
    """Put the key where it is wanted, of an array perhaps several times."""
    for path in dict.fromkeys(file.replace(ID, str(job_id)) for job_id in job_ids):
        try:
            _write(path, key.private)
        except OSError as error:
            sentence = f"their key cannot be written to {excerpt(path)} ({error.strerror}); it is in {beside!r}"
            raise _refused(f"the jobs are submitted, but {sentence}") from error


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(f"the key {excerpt(path)} cannot be read") from error


def _public(path: str) -> str:
    """The public key of a private one; one with a passphrase would ask for it on every host."""
    words = _run(["ssh-keygen", "-y", "-P", "", "-f", path]).split()
    return " ".join(words[:2])


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise _refused(f"ssh-keygen cannot be run: {error.strerror}") from error
    if done.returncode != 0:
        said = next(iter(reversed(done.stderr.strip().splitlines())), "ssh-keygen failed")
        raise _refused(f"this is no key for a job, which is private and has no passphrase: {excerpt(said)}")
    return done.stdout


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(fd, "w", encoding="ascii") as file:
        os.fchmod(fd, 0o600)
        file.write(text)
        file.flush()
        os.fsync(fd)


def _refused(sentence: str) -> RequestRefused:
    return RequestRefused(sentence, exit_status=ExitStatus.JOB_KEY)
