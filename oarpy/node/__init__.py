"""What runs on nodes; knows nothing of the rest of oarpy.

The server imports none of these programs: it needs nothing of them, and would pay for their memory.
"""

from functools import cache
from pathlib import Path


def path(program: str) -> Path:
    """The file of one of these programs; the directory of oarexec."""
    own = Path(__file__).parent / program
    return own if own.is_dir() else own.with_suffix(".py")


@cache
def text(program: str) -> bytes:
    """What is in it, to be sent to a node."""
    return path(program).read_bytes()
