"""``OarExecutor``: functions that run as jobs, as ``concurrent.futures`` runs them in processes.

Each call is a directory below the executor's own, in the user's files: ``call``, the
pickled function and its arguments; ``result``, what came of it, which appears whole or
not at all.  The job runs ``run_call.py``, a copy of a file that needs nothing but the
standard library, and what unpickling the call needs.

One thread for each executor watches all its jobs through one feed; a result is read
when its job is over.  If the program dies, its jobs end by themselves and their
directories stay.
"""

from __future__ import annotations

import os
import pickle
import shlex
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future, InvalidStateError
from contextlib import suppress
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar

from oarpy.client import api
from oarpy.client.executor_call import RESULT
from oarpy.client.waiting import Watched
from oarpy.errors import OarError, RequestRefused

T = TypeVar("T")

#: How soon a new call, or the wish to end, is noticed by the thread.
_STEP_S = 1.0
#: For a shared file system to show a result that was written elsewhere.
_ARRIVAL_S = 10.0
_RUNNER = "run_call.py"


class JobFailed(OarError):
    """The job ended without a result: it was killed, its walltime had passed, or it could not run.

    ``job`` says which and how; its output is in ``directory``.
    """

    def __init__(self, job: Watched, directory: str) -> None:
        tail = _tail(os.path.join(directory, "output"))
        cause = job.end_cause or job.state
        super().__init__(f"job {job.job_id} ended without a result ({cause}{'; ' + tail if tail else ''})")
        self.job = job
        self.directory = directory


class OarExecutor(Executor):
    """Runs each call as a job of its own; a context manager, like every executor.

    ``resources``, ``queue``, ``project``, ``types``, ``properties``, ``name`` mean what they mean to
    ``oarpy.client.submit``.  ``directory`` must be seen by the nodes under the same name; by
    default one below the current directory.  ``python`` is the interpreter of the jobs.
    ``keep`` leaves the calls' files there.

    Functions, arguments and results are pickled, by cloudpickle where it is installed,
    which takes lambdas and functions of ``__main__`` as well.
    """

    def __init__(
        self,
        resources: Sequence[str] = (),
        *,
        queue: str | None = None,
        project: str | None = None,
        types: Sequence[str] = (),
        properties: str | None = None,
        name: str | None = None,
        directory: str | None = None,
        python: str = sys.executable,
        keep: bool = False,
    ) -> None:
        self._options: dict[str, Any] = {
            "resources": tuple(resources),
            "queue": queue,
            "project": project,
            "types": tuple(types),
            "properties": properties,
            "name": name,
        }
        base = os.path.abspath(directory or "oar_calls")
        os.makedirs(base, mode=0o700, exist_ok=True)
        self._directory = tempfile.mkdtemp(prefix="executor-", dir=base)
        self._python = python
        self._keep = keep
        self._pickling = _pickling()
        shutil.copyfile(_source(), os.path.join(self._directory, _RUNNER))
        self._lock = threading.Lock()
        self._calls: dict[int, tuple[JobFuture[Any], str]] = {}
        self._count = 0
        self._ends = False
        self._changed = threading.Event()
        self._thread: threading.Thread | None = None
        #: Until when the results of jobs that are over may still arrive; the thread's own.
        self._arrivals: dict[int, float] = {}
        self._process = os.getpid()

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> JobFuture[T]:
        """Submit a job that calls ``function``; its future has the result.

        Cancelling the future deletes the job, unless it has begun.

        Raises:
            RequestRefused: the server does not take the job.
            ServerUnavailable: it does not answer; no job was submitted.
            RuntimeError: the executor was shut down, or is another process's.
        """
        if os.getpid() != self._process:
            raise RuntimeError(f"this executor is that of process {self._process}; make one after the fork")
        # By value where it cannot be imported elsewhere; sys.path for what can.
        call = pickle.dumps((sys.path, self._pickling.__name__, self._pickling.dumps((function, args, kwargs))))
        with self._lock:
            if self._ends:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._count += 1
            place = os.path.join(self._directory, str(self._count))
        os.mkdir(place, 0o700)
        with open(os.path.join(place, "call"), "wb") as file:
            file.write(call)
        runner = os.path.join(self._directory, _RUNNER)
        output = os.path.join(place, "output")
        try:
            submitted = api.submit(
                shlex.join([self._python, runner, place]),
                stdout=output,
                stderr=output,
                directory=os.getcwd(),
                **self._options,
            )
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        job_id = submitted.job_ids[0]
        future: JobFuture[T] = JobFuture(job_id)
        with self._lock:
            self._calls[job_id] = (future, place)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="oarpy executor", daemon=True)
                self._thread.start()
        self._changed.set()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; with ``cancel_futures`` delete the jobs that have not begun."""
        if os.getpid() != self._process:
            return
        with self._lock:
            self._ends = True
            calls = list(self._calls.values())
            thread = self._thread
        if cancel_futures and (given_up := [future.job_id for future, _ in calls if future.give_up()]):
            api.cancel(*given_up)
        self._changed.set()
        if wait and thread is not None:
            thread.join()
        # What failed jobs leave, somebody may want to look at.
        if wait and not self._keep and set(os.listdir(self._directory)) <= {_RUNNER}:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _watch(self) -> None:
        """Until the executor is shut down and no call is open: tell futures what became of their jobs."""
        while True:
            self._changed.clear()
            with self._lock:
                open_calls = list(self._calls)
                if not open_calls and self._ends:
                    # A call that was being submitted when the executor was shut down begins another one.
                    self._thread = None
                    return
            if not open_calls:
                self._changed.wait()
                continue
            try:
                self._watch_these(open_calls)
            except RequestRefused as refusal:
                self._fail(open_calls, refusal)
            except OarError:
                # The database is away for long; the jobs are not.
                time.sleep(_STEP_S)

    def _watch_these(self, job_ids: Sequence[int]) -> None:
        """Until there are others to watch; new ones wait a little, to be watched together."""
        until_s = time.monotonic() + _STEP_S
        with api.waiting(job_ids) as waiting:
            while True:
                for job in waiting.jobs.values():
                    self._tell(job)
                if self._changed.is_set() and time.monotonic() >= until_s:
                    return
                if waiting.unfinished:
                    waiting.step(_STEP_S)
                elif self._arrivals:
                    time.sleep(_STEP_S)
                else:
                    return

    def _tell(self, job: Watched) -> None:
        with self._lock:
            call = self._calls.get(job.job_id)
        if call is None:
            return
        future, place = call
        if job.state in ("Running", "Suspended", "Resuming", "Finishing") and not (
            future.running() or future.cancelled()
        ):
            with suppress(InvalidStateError, RuntimeError):  # cancelled this moment
                future.set_running_or_notify_cancel()
        if job.is_final and not self._may_arrive(job, place):
            with self._lock:
                del self._calls[job.job_id]
            self._finish(future, job, place)

    def _may_arrive(self, job: Watched, place: str) -> bool:
        """Whether a result that is not there was written, and is not seen here yet."""
        if job.exit_status == 0 and not os.path.exists(os.path.join(place, RESULT)):
            until_s = self._arrivals.setdefault(job.job_id, time.monotonic() + _ARRIVAL_S)
            if time.monotonic() < until_s:
                # Lists the directory anew, where a network file system remembers that the file was not there.
                with suppress(OSError):
                    os.listdir(place)
                return True
        self._arrivals.pop(job.job_id, None)
        return False

    def _finish(self, future: Future[Any], job: Watched, place: str) -> None:
        try:
            result, error = _outcome(job, place)
        except Exception as problem:  # whatever unpickling a result raises is the call's outcome
            result, error = None, problem
        if not self._keep and (future.cancelled() or not isinstance(error, JobFailed)):
            shutil.rmtree(place, ignore_errors=True)
        with suppress(InvalidStateError):  # cancelled meanwhile
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

    def _fail(self, job_ids: Iterable[int], error: OarError) -> None:
        for job_id in job_ids:
            with self._lock:
                call = self._calls.pop(job_id, None)
            if call is not None:
                with suppress(InvalidStateError):
                    call[0].set_exception(error)


class JobFuture(Future[T]):
    """The future of a call, which is the job ``job_id``."""

    def __init__(self, job_id: int) -> None:
        super().__init__()
        self.job_id = job_id

    def cancel(self) -> bool:
        """Delete the job, unless it is known to run or to be over; whether there will be no result."""
        if self.give_up():
            api.cancel(self.job_id)
        return self.cancelled()

    def give_up(self) -> bool:
        """Expect no result any more, and leave the job alone; whether it was this call that did so."""
        if self.cancelled() or not super().cancel():
            return False
        self.set_running_or_notify_cancel()
        return True


def _outcome(job: Watched, place: str) -> tuple[Any, BaseException | None]:
    path = os.path.join(place, RESULT)
    if not os.path.exists(path):
        return None, JobFailed(job, place)
    with open(path, "rb") as file:
        succeeded, value = pickle.load(file)
    if succeeded:
        return value, None
    error, trace = value
    error.__cause__ = _Remote(trace)
    return None, error


class _Remote(Exception):
    """Where in the job the exception was raised."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def _tail(path: str) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 500))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _pickling() -> ModuleType:
    try:
        return import_module("cloudpickle")
    except ImportError:
        return pickle


def _source() -> str:
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "executor_call.py")
