"""Files that people name on the command line."""

from __future__ import annotations

from oarpy.errors import RequestRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.wording import excerpt


def text_of(path: str, what: str, status: ExitStatus) -> str:
    """What is written in a file, which is called ``what`` where it has to be refused with ``status``."""
    try:
        with open(path, encoding="utf-8", errors="strict", newline="") as file:
            return file.read()
    except OSError as error:
        raise RequestRefused(
            f"the {what} {excerpt(path)} cannot be read: {error.strerror}", exit_status=status
        ) from error
    except UnicodeDecodeError as error:
        raise RequestRefused(f"the {what} {excerpt(path)} is not text in UTF-8", exit_status=status) from error
