"""The administrator's programs on the server: before the launch of a job, and after its end.

They are started once in the life of a runner and never waited for by a turn; the
runner asks what became of them.  Nothing follows from their end but by a turn, whose
transaction shows that the runner still leads and the job is still to begin.  A runner
that dies forgets them, and the next one starts them again for launches that were not
sent and jobs that were not closed.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from logging import getLogger

from oarpy.database.events import Event
from oarpy.database.launches import Finishing
from oarpy.model.states import JobId
from oarpy.ports.executor import Attempt, Launch
from oarpy.settings import Prologue

logger = getLogger(__name__)


@dataclass(eq=False, slots=True)
class Prepared:
    """A launch that follows its prologue, until the job is not about to begin any more."""

    host: str
    launch: Launch
    prologue_ended: bool = False
    #: What the prologue did wrong: the launch is to be given up.
    failure: Event | None = None
    #: Whether the present session of the host knows what is to be done.
    told: bool = False


class ServerPrograms:
    """The server prologues and epilogues of one runner; ``ended`` is called after each of them."""

    def __init__(self, settings: Prologue, ended: Callable[[], None]) -> None:
        self._settings = settings
        self._ended = ended
        self._running: set[asyncio.Task[None]] = set()
        self._prepared: dict[Attempt, Prepared] = {}
        #: The jobs whose epilogue has been started; with what it did wrong, once it has ended.
        self._epilogues: dict[JobId, Event | None] = {}
        self._epilogues_ended: set[JobId] = set()

    @property
    def has_prologue(self) -> bool:
        """Whether something has to run before a launch is sent."""
        return self._settings.server_prologue is not None

    def prepare(self, host: str, launch: Launch) -> None:
        """Run the prologue of a launch, unless it has been begun; then its host is to be told anew."""
        known = self._prepared.get(launch.attempt)
        if known is None:
            known = self._prepared[launch.attempt] = Prepared(host, launch)
            self.begin(self._prologue(known))
        known.launch, known.told = launch, False

    def prepared(self) -> dict[Attempt, Prepared]:
        """The launches whose prologues were begun."""
        return dict(self._prepared)

    def forget_launches(self, attempts: Collection[Attempt]) -> None:
        """These have begun, or never will."""
        for attempt in attempts:
            self._prepared.pop(attempt, None)

    def spoilt(self, attempt: Attempt) -> Event | None:
        """What the prologue of a launch did wrong; None when the launch was not given up for that."""
        known = self._prepared.get(attempt)
        return None if known is None else known.failure

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
        # One by one, for another one may end meanwhile, and what it did wrong is not to be lost.
        for job_id in list(self._epilogues):
            if job_id not in job_ids:
                del self._epilogues[job_id]

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

    async def _prologue(self, prepared: Prepared) -> None:
        job_id, user = prepared.launch.attempt.job_id, prepared.launch.user or ""
        prepared.failure = await self._run("SERVER_PROLOGUE", self._settings.server_prologue, job_id, user)
        prepared.prologue_ended = True
        self._ended()

    async def _epilogue(self, job: Finishing) -> None:
        program = self._settings.server_epilogue
        self._epilogues[job.job_id] = await self._run("SERVER_EPILOGUE", program, job.job_id, job.user)
        self._epilogues_ended.add(job.job_id)
        self._ended()

    async def _run(self, name: str, program: str | None, job_id: JobId, user: str) -> Event | None:
        """Run a program of a job; what it did wrong, None when nothing."""
        if program is None:
            return None
        try:
            return await self._event_of(name, program, job_id, user)
        except Exception:  # else its job would wait for ever
            logger.exception("job %d: %s could not be run", job_id, program)
            reason = f"the server failed on {program}; its log says why"
            return Event(f"{name}_EXIT_CODE_ERROR", job_id, description=reason)

    async def _event_of(self, name: str, program: str, job_id: JobId, user: str) -> Event | None:
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
