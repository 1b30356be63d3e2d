"""The keeper: starts almighty again whenever it ends, for an instance that systemd does not look after.

``oarpy up`` leaves it behind.  Told to end (SIGTERM), it stops almighty and then the
private PostgreSQL.  It imports next to nothing, for it does nothing for months.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time

from oarpy.instance import Instance, find_instance
from oarpy.model.exit_statuses import ExitStatus

ALMIGHTY = "oarpy.almighty"
DELAY_S = 0.1
DELAY_MAX_S = 30.0
#: Almighty gives its own processes ten seconds.
PATIENCE_S = 20.0
LARGEST_LOG = 10 * 2**20


def main() -> int:
    """Keep almighty running until told to end; the exit status."""
    instance = find_instance()
    lock = _only_one(instance)
    if lock is None:
        print("another keeper runs for this instance", file=sys.stderr)
        return ExitStatus.REFUSED
    _log_to(os.path.join(instance.log_dir, "almighty.log"))
    # Blocked, they are waited for: whatever comes first, a death or a request to end.
    waited = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    status = _keep(waited)
    if status == ExitStatus.OK:
        _stop_database(instance)
    os.unlink(_pid_file(instance))
    return status


def _keep(waited: set[signal.Signals]) -> int:
    delay_s = DELAY_S
    while True:
        begun_s = time.monotonic()
        pid = _start()
        while True:
            number = signal.sigwait(waited)
            if number != signal.SIGCHLD:
                _stop(pid)
                return ExitStatus.OK
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                break
        code = os.waitstatus_to_exitcode(status)
        if code == ExitStatus.CONFIGURATION:
            return code  # trying again would not help
        if time.monotonic() - begun_s > DELAY_MAX_S:
            delay_s = DELAY_S
        _say(f"almighty (pid {pid}) ended with {code}, started again in {delay_s:.1f} s")
        if signal.sigtimedwait(waited - {signal.SIGCHLD}, delay_s) is not None:
            return ExitStatus.OK
        delay_s = min(2 * delay_s, DELAY_MAX_S)


def _start() -> int:
    return os.posix_spawn(
        sys.executable, [sys.executable, "-m", ALMIGHTY], os.environ, setsigmask=[], setsigdef=[signal.SIGHUP]
    )


def _stop(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE_S
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        rest_s = deadline - time.monotonic()
        if rest_s <= 0:
            _say(f"almighty (pid {pid}) does not end and is killed")
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return
        signal.sigtimedwait([signal.SIGCHLD], rest_s)


def _stop_database(instance: Instance) -> None:
    # At the very end the memory that these take does not matter any more.
    from oarpy.drivers import postgresql

    postgresql.stop_private(instance)


def _only_one(instance: Instance) -> int | None:
    """Write the process id where others look for it; None when another keeper has.

    The descriptor is open, and locked, for as long as this process lives.
    """
    while True:
        descriptor = os.open(_pid_file(instance), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if _is_still(_pid_file(instance), descriptor):
            break
        # A keeper that ended removed it after it was opened here; the next one would lock another file.
        os.close(descriptor)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def _is_still(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _pid_file(instance: Instance) -> str:
    return os.path.join(instance.run_dir, "keeper.pid")


def _log_to(path: str) -> None:
    if os.path.exists(path) and os.path.getsize(path) > LARGEST_LOG:
        os.replace(path, path + ".1")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _say(sentence: str) -> None:
    when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    print(f"{when}Z WARNING keeper[{os.getpid()}] {sentence}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
