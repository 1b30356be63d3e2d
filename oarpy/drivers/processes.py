"""What Linux says of processes."""

from __future__ import annotations


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that is dead and not yet reaped by its parent does not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name in parentheses may hold anything, parentheses too.
            state = file.read().rpartition(b")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in (b"Z", b"X")
