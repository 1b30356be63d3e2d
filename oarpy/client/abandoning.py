"""A job that only makes sense while somebody waits for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from oarpy.client.api import Client
from oarpy.errors import RequestRefused
from oarpy.model.exit_statuses import ExitStatus


class DeletedIfInterrupted(AbstractContextManager[Callable[[], None]]):
    """A context in which ^C deletes the job, until what it yields is called; a command that is killed leaves it."""

    def __init__(self, client: Client, job_id: int) -> None:
        self._client = client
        self._job_id = job_id
        self._held = True

    def __enter__(self) -> Callable[[], None]:
        return self._let_go

    def _let_go(self) -> None:
        self._held = False

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        """Raises ``RequestRefused``: interrupted; the job was deleted."""
        if self._held and kind is not None and issubclass(kind, KeyboardInterrupt):
            self._client.cancel(self._job_id)
            raise RequestRefused(
                f"interrupted; job {self._job_id} was deleted", exit_status=ExitStatus.INTERRUPTED
            ) from None
