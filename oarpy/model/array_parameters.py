"""``--array-param-file``: one element of an array for each line."""

from __future__ import annotations

from oarpy.errors import SyntaxRefused
from oarpy.model.exit_statuses import ExitStatus


def parse_array_parameters(text: str) -> tuple[str, ...]:
    """The lines of ``text`` that are neither blank nor comments; each is appended to the command.

    Raises:
        SyntaxRefused: with status 9, no line is left or one has a zero byte.
    """
    lines = (line.strip() for line in text.split("\n"))
    parameters = tuple(line for line in lines if line and not line.startswith("#"))
    if not parameters:
        raise SyntaxRefused(
            "the file of array parameters has no parameters", exit_status=ExitStatus.PARAMETERS_OR_NOT_RUNNING
        )
    if "\0" in text:
        raise SyntaxRefused(
            "the file of array parameters has a zero byte", exit_status=ExitStatus.PARAMETERS_OR_NOT_RUNNING
        )
    return parameters
