"""What runs on nodes; knows nothing of the rest of oarpy."""

from functools import cache
from pathlib import Path


@cache
def text(program: str) -> bytes:
    """The file of one of these programs, to be sent to a node."""
    return (Path(__file__).parent / f"{program}.py").read_bytes()
