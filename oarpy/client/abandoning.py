"""A job that only makes sense while somebody waits for it."""

from __future__ import annotations

from collections.abc import Callable

from oarpy.client.asking import Request, new_key
from oarpy.client.connection import Connection
from oarpy.errors import RequestRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.payloads import JobSelection
from oarpy.model.states import JobId


class DeletedIfInterrupted:
    """A context in which ^C deletes the job; a command that is killed leaves it."""

    def __init__(self, connect: Callable[[], Connection], job_id: int, tell: Callable[[str], None]) -> None:
        self._connect = connect
        self._job_id = job_id
        self._tell = tell

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        """Raises ``RequestRefused``: interrupted; the job was deleted."""
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            selection = JobSelection(job_ids=(JobId(self._job_id),))
            Request(self._connect, "delete", selection.to_json(), key=new_key(), tell=self._tell).answer()
            raise RequestRefused(
                f"interrupted; job {self._job_id} was deleted", exit_status=ExitStatus.INTERRUPTED
            ) from None
