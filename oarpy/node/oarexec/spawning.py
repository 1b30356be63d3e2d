"""Starting other programs."""

import os
import signal
import sys
from typing import Any, Dict, List

from .keys import leave_keys

PR_SET_CHILD_SUBREAPER = 36
# Whoever started the server may have ignored signals (nohup, a shell's &); its jobs have them as after a login.
DEFAULTED = frozenset(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}

# The directory, or the zip, in which this package lies.
PLACE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Run by its path a zip costs 1 MiB (runpy) for as long as what is run lives.
START = "import sys; sys.path.insert(0, sys.argv[1]); from oarexec.__main__ import main; sys.exit(main(sys.argv[2:]))"


def myself(*arguments: str) -> List[str]:
    """The words that run oarexec once more; neither environment nor site-packages have a say in what that is."""
    return [sys.executable, "-I", "-S", "-c", START, PLACE, *arguments]


def become_subreaper() -> bool:
    """Make orphans of the jobs our children; False where that cannot be had."""
    import ctypes

    try:
        done = ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except (OSError, AttributeError):
        return False
    return bool(done == 0)


def spawn(arguments: List[str], environment: Dict[str, str], descriptors: Dict[int, int]) -> int:
    """Start a program in a session of its own; its pid.  Of stdin, stdout and stderr what is not given is /dev/null."""
    if os.geteuid() == 0:
        leave_keys()
    argv: List[Any] = arguments
    env: Dict[Any, Any] = environment
    if sys.getfilesystemencoding() != "utf-8":
        argv = [argument.encode("utf-8", "surrogateescape") for argument in arguments]
        env = {name.encode(): value.encode("utf-8", "surrogateescape") for name, value in environment.items()}
    if hasattr(os, "posix_spawn"):
        actions: List[Any] = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in range(3)]
        actions += [(os.POSIX_SPAWN_DUP2, source, target) for target, source in descriptors.items()]
        try:
            return os.posix_spawn(
                argv[0],
                argv,
                env,
                file_actions=actions,
                setsid=True,
                setsigmask=(),
                setsigdef=DEFAULTED,
            )
        except NotImplementedError:
            # A C library without POSIX_SPAWN_SETSID.
            pass
    pid = os.fork()
    if pid != 0:
        return pid
    try:
        os.setsid()
        for number in DEFAULTED:
            signal.signal(number, signal.SIG_DFL)
        null = os.open("/dev/null", os.O_RDWR)
        for target, source in [(0, null), (1, null), (2, null), *descriptors.items()]:
            os.dup2(source, target)
        os.execve(argv[0], argv, env)
    finally:
        os._exit(127)
