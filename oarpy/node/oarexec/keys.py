"""The session keyring, which jobs must not inherit."""

import os
from functools import lru_cache
from typing import Callable, Optional

# The system call keyctl(2) by machine.
KEYCTL_CALLS = {"x86_64": 250, "aarch64": 219, "ppc64le": 271, "riscv64": 219, "armv7l": 311, "s390x": 280}
KEYCTL_JOIN_SESSION_KEYRING = 1


@lru_cache(1)
def keyctl() -> Optional[Callable[[int, Optional[int]], int]]:
    import ctypes

    number = KEYCTL_CALLS.get(os.uname().machine)
    if number is None:
        return None
    call = ctypes.CDLL(None).syscall
    return lambda operation, argument: int(call(ctypes.c_long(number), operation, argument))


def leave_keys() -> None:
    """Begin a new session of keys (session-keyring(7)).

    Whoever inherits one may read what is in it, whatever account he becomes: jobs would have that of
    oarexec's own login, and all of them the same.
    """
    call = keyctl()
    if call is not None:
        # Where the kernel has none, or a container may not, there is nothing to leave.
        call(KEYCTL_JOIN_SESSION_KEYRING, None)
