"""The administrator's programs on the server: before the launch of a job, and after its end.

They are started once in the life of a runner and never waited for by a turn; the
runner asks what became of them.  A runner that dies forgets them, and the next one
starts them again for launches that were not sent and jobs that were not closed.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress

from oarpy.database.events import Event
from oarpy.database.launches import Finishing
from oarpy.model.states import JobId
from oarpy.settings import Prologue


class ServerPrograms:
    """The server prologues and epilogues of one runner; ``ended`` is called after each epilogue."""

    def __init__(self, settings: Prologue, ended: Callable[[], None]) -> None:
        self._settings = settings
        self._ended = ended
        self._running: set[asyncio.Task[None]] = set()
        #: What the prologues that failed did wrong.
        self._spoilt: dict[JobId, Event] = {}
        #: The jobs whose epilogue has been started; with what it did wrong, once it has ended.
        self._epilogues: dict[JobId, Event | None] = {}
        self._epilogues_ended: set[JobId] = set()

    @property
    def has_prologue(self) -> bool:
        """Whether something has to run before a launch is sent."""
        return self._settings.server_prologue is not None

    async def prologue(self, job_id: JobId, user: str) -> Event | None:
        """Run the prologue of a job; the event when it fails or takes too long."""
        return await self._run("SERVER_PROLOGUE", self._settings.server_prologue, job_id, user)

    def spoil(self, job_id: JobId, failure: Event) -> None:
        """Remember why a job is not launched, until its host has given the launch up."""
        self._spoilt[job_id] = failure

    def spoilt(self, job_id: JobId) -> Event | None:
        """What the prologue of a job did wrong; None when its launch was not given up for that."""
        return self._spoilt.get(job_id)

    def begin_epilogue(self, job: Finishing) -> None:
        """Start the epilogue of a job, once."""
        if job.job_id not in self._epilogues:
            self._epilogues[job.job_id] = None
            self.begin(self._epilogue(job))

    def epilogue_due(self, job_id: JobId) -> bool:
        """Whether there is an epilogue that has not ended."""
        return self._settings.server_epilogue is not None and job_id not in self._epilogues_ended

    def epilogue_failure(self, job_id: JobId) -> Event | None:
        """What the epilogue of a job did wrong."""
        return self._epilogues.get(job_id)

    def forget_epilogues_but(self, job_ids: Collection[JobId]) -> None:
        """The other jobs are closed."""
        self._epilogues_ended.intersection_update(job_ids)
        self._epilogues = {job_id: failure for job_id, failure in self._epilogues.items() if job_id in job_ids}

    def begin(self, running: Coroutine[None, None, None]) -> None:
        """Let something that waits for a program go on beside the turns."""
        task = asyncio.create_task(running)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """Wait for nothing any more; programs that run are left alone."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _epilogue(self, job: Finishing) -> None:
        program = self._settings.server_epilogue
        self._epilogues[job.job_id] = await self._run("SERVER_EPILOGUE", program, job.job_id, job.user)
        self._epilogues_ended.add(job.job_id)
        self._ended()

    async def _run(self, name: str, program: str | None, job_id: JobId, user: str) -> Event | None:
        if program is None:
            return None
        limit_s = self._settings.timeout.total_seconds()
        try:
            process = await asyncio.create_subprocess_exec(
                *(program, str(job_id), user),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            return Event(f"{name}_EXIT_CODE_ERROR", job_id, description=f"{program} cannot be run: {error.strerror}")
        try:
            status = await asyncio.wait_for(process.wait(), limit_s)
        except TimeoutError:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            return Event(f"{name}_TIMEOUT", job_id, description=f"{program} took more than {limit_s:g} s")
        if status == 0:
            return None
        return Event(f"{name}_EXIT_CODE_ERROR", job_id, description=f"{program} ended with {status}")
