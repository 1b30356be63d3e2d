"""What the runner's sessions and programs do while its other thread writes a turn."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from oarpy import settings
from oarpy.database import allocations, launches
from oarpy.database.connection import open_engine
from oarpy.database.events import Event
from oarpy.database.launches import Closed, Finishing
from oarpy.model.states import EndCause, JobId
from oarpy.modules.closing import Closing
from oarpy.modules.context import Context
from oarpy.modules.hosts import Host
from oarpy.modules.runner import Runner
from oarpy.modules.server_programs import ServerPrograms
from oarpy.modules.work import Work
from oarpy.ports.executor import Attempt

JOB = JobId(1)
FAILURE = Event("SERVER_EPILOGUE_EXIT_CODE_ERROR", JOB)


def a_runner() -> Any:
    engine = open_engine({"host": "/nonexistent", "dbname": "oar"}, application_name="oarpy/0/runner")
    nowhere: Any = None
    return Runner(Context(engine, settings.Settings()), nowhere)


def test_a_head_whose_session_ends_while_it_is_told_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def told() -> bool:
        running = a_runner()
        host = running._hosts["c1"] = Host("c1")
        lost = threading.Event()

        class Session:
            async def close(self) -> None:
                lost.set()

        session: Any = Session()
        host.session = session
        parallel = running._parts.of(Attempt(JOB, 1), "c1", ["c2"], time.monotonic())

        def written(heard: object) -> Work:
            assert lost.wait(20), "the session is lost while the transaction lasts"
            # The turn had seen it before.
            parallel.head_told = True
            return Work()

        monkeypatch.setattr(running, "_write", written)
        monkeypatch.setattr(running._sessions, "_write_loss", _without_a_database(running))
        turn = asyncio.create_task(running._turn())
        # Begun before the session is lost, as there is one thread for both.
        await asyncio.sleep(0)
        await running._sessions._lose(host)
        await turn
        return bool(parallel.head_told)

    assert asyncio.run(told()) is False


def _without_a_database(running: Any) -> Any:
    real = running._sessions._write_loss

    def write_loss(host: Host) -> bool:
        with pytest.raises(Exception, match="nonexistent"):
            real(host)
        return False

    return write_loss


def test_an_epilogue_that_fails_while_its_job_is_looked_at_is_not_taken_for_one_that_did_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    programs = ServerPrograms(settings.Prologue(server_epilogue="/bin/false"), lambda: None)
    reads = programs.epilogue_failure

    def read_and_then_it_ends(job_id: JobId) -> Event | None:
        found = reads(job_id)
        it_ends()
        return found

    def it_ends() -> None:
        programs._epilogues[JOB] = FAILURE
        programs._epilogues_ended.add(JOB)

    spoilt: list[JobId] = []

    def close(conn: object, well: object, badly: object, them: list[JobId]) -> Closed:
        assert (well, badly) == ([], [])
        spoilt.extend(them)
        return Closed(len(them), False)

    job = Finishing(JOB, 1, EndCause.EXIT, "alice", "c1", (), (), None)
    monkeypatch.setattr(programs, "epilogue_failure", read_and_then_it_ends)
    monkeypatch.setattr(launches, "finishing", lambda conn: [job])
    monkeypatch.setattr(launches, "close", close)
    monkeypatch.setattr(allocations, "give_back", lambda conn, jobs: [])
    closing = Closing(a_runner()._parallel, programs)
    nowhere: Any = None

    closing.close(nowhere, Work())
    it_ends()
    closing.close(nowhere, Work())

    assert spoilt == [JOB]


def test_what_an_epilogue_did_wrong_is_kept_while_those_of_closed_jobs_are_forgotten() -> None:
    programs = ServerPrograms(settings.Prologue(), lambda: None)
    programs._epilogues = {JOB: None, JobId(2): None}

    class Jobs(set[JobId]):
        """Those that are not closed; another epilogue ends when it is asked."""

        def __contains__(self, job_id: object) -> bool:
            programs._epilogues[JOB] = FAILURE
            return super().__contains__(job_id)

    programs.forget_epilogues_but(Jobs({JOB}))

    assert programs.epilogue_failure(JOB) is FAILURE
    assert programs.epilogue_failure(JobId(2)) is None


def test_all_sessions_are_closed_at_once() -> None:
    async def closed() -> None:
        running = a_runner()
        all_of_them = asyncio.Barrier(3)

        class Session:
            async def close(self) -> None:
                await all_of_them.wait()

        for name in ("c1", "c2", "c3"):
            session: Any = Session()
            running._hosts[name] = Host(name, session)
        async with asyncio.timeout(30):
            await running._sessions.close()

    asyncio.run(closed())


def test_a_job_does_not_wait_for_a_program_that_nobody_could_run(monkeypatch: pytest.MonkeyPatch) -> None:
    async def failure() -> Event | None:
        ended = asyncio.Event()
        programs = ServerPrograms(settings.Prologue(server_epilogue="/bin/true"), ended.set)

        async def refuses(*words: str, **other: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(asyncio, "create_subprocess_exec", refuses)
        programs.begin_epilogue(Finishing(JOB, 1, EndCause.EXIT, "alice", "c1", (), (), None))
        async with asyncio.timeout(30):
            await ended.wait()
        assert not programs.epilogue_due(JOB)
        return programs.epilogue_failure(JOB)

    said = asyncio.run(failure())

    assert said is not None
    assert said.type == "SERVER_EPILOGUE_EXIT_CODE_ERROR"
