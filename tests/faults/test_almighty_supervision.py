"""Processes that die are started again; without their supervisor they end by themselves."""

from __future__ import annotations

import os
import select
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from oarpy.almighty import supervision
from oarpy.almighty.calls import answer, pair
from oarpy.almighty.supervision import Process, Supervised
from oarpy.automata.almighty import Event
from oarpy.database.connection import Epoch
from tests.support.waiting import wait_until

EPOCH = Epoch(7, uuid.uuid4())


class Notes:
    """A directory in which each life of a process leaves its pid, when it began, and what it has open."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def process(self, name: str, *, stubborn: bool = False) -> Process:
        """One that notes that it lives, and lives until it is told to end."""

        def live(epoch: Epoch, stop: int) -> int:
            opened = sorted(set(os.listdir("/proc/self/fd")) - {"0", "1", "2", str(stop)})
            text = f"{begun_at(os.getpid())} {epoch.number} {len(opened) - 1}"
            (self.root / f"{name}.{os.getpid()}.new").write_text(text)
            (self.root / f"{name}.{os.getpid()}.new").rename(self.root / f"{name}.{os.getpid()}")
            _wait_until_readable(stop)
            if stubborn:
                signal.pause()
            return 0

        return Process(name, live)

    def lives(self, name: str) -> dict[int, str]:
        """The process ids of its lives, each with its epoch and how many descriptors it had inherited."""
        notes = [note for note in self.root.glob(f"{name}.*") if note.suffix != ".new"]
        return {int(note.suffix[1:]): note.read_text().partition(" ")[2] for note in notes}

    def pids(self) -> list[int]:
        return [int(note.suffix[1:]) for note in self.root.iterdir() if note.suffix != ".new"]

    def living(self) -> list[int]:
        """Those that have not ended; whoever was given the pid of one that has is none of them."""
        notes = {int(note.suffix[1:]): note.read_text() for note in self.root.iterdir() if note.suffix != ".new"}
        return [pid for pid, text in notes.items() if text.partition(" ")[0] == str(begun_at(pid)) and is_alive(pid)]


def begun_at(pid: int) -> int | None:
    """When a process began, in ticks since the boot; None when there is none."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return None


def _wait_until_readable(descriptor: int) -> None:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    poller.poll()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[Notes]:
    notes = Notes(tmp_path)
    yield notes
    for pid in notes.living():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def supervised(*processes: Process, delay_s: float = 0.01, delay_max_s: float = 10.0) -> Iterator[Supervised]:
    """A supervisor; ended at the end unless the test has done so."""
    started = supervision.start(processes, delay=timedelta(seconds=delay_s), delay_max=timedelta(seconds=delay_max_s))
    try:
        yield started
    finally:
        with suppress(ChildProcessError):
            started.end()


def test_nothing_runs_before_there_is_an_epoch(notes: Notes) -> None:
    with supervised(notes.process("runner")) as supervisor:
        before = notes.lives("runner")
        supervisor.begin(EPOCH)
        wait_until(lambda: notes.lives("runner"))

    assert before == {}


def test_a_process_gets_its_epoch_and_no_descriptor_of_anybody_else(notes: Notes) -> None:
    foreign_r, foreign_w = os.pipe()
    with supervised(notes.process("runner"), notes.process("judas")) as supervisor:
        supervisor.begin(EPOCH)
        lives = wait_until(lambda: notes.lives("runner"))
        also = wait_until(lambda: notes.lives("judas"))

    assert [*lives.values(), *also.values()] == ["7 0", "7 0"]
    os.close(foreign_r)
    os.close(foreign_w)


def test_a_process_that_dies_is_started_again_and_the_others_are_left_alone(notes: Notes) -> None:
    with supervised(notes.process("runner"), notes.process("judas")) as supervisor:
        supervisor.begin(EPOCH)
        wait_until(lambda: notes.lives("runner") and notes.lives("judas"))
        os.kill(next(iter(notes.lives("runner"))), signal.SIGKILL)
        wait_until(lambda: len(notes.lives("runner")) == 2)

    assert len(notes.lives("judas")) == 1


def test_one_that_dies_again_and_again_waits_longer_each_time(notes: Notes) -> None:
    deaths: list[float] = []
    with supervised(notes.process("runner"), delay_s=0.1) as supervisor:
        supervisor.begin(EPOCH)
        for life in range(1, 5):
            wait_until(lambda life=life: len(notes.lives("runner")) == life)
            (alive,) = notes.living()
            # Before: whoever counts from here counts no less than there was.
            deaths.append(time.monotonic())
            os.kill(alive, signal.SIGKILL)

    between = [later - earlier for earlier, later in pairwise(deaths)]
    assert [pause >= least for pause, least in zip(between, (0.1, 0.2, 0.4), strict=True)] == [True] * 3


def test_processes_end_when_their_term_does_and_the_next_term_has_its_own(notes: Notes) -> None:
    with supervised(notes.process("runner")) as supervisor:
        supervisor.begin(EPOCH)
        (first,) = wait_until(lambda: notes.lives("runner"))
        supervisor.end_term()
        ended = not is_alive(first)
        supervisor.begin(Epoch(8, uuid.uuid4()))
        wait_until(lambda: len(notes.lives("runner")) == 2)

    assert ended
    assert set(notes.lives("runner").values()) == {"7 0", "8 0"}


def test_they_end_when_the_supervisor_is_killed(notes: Notes) -> None:
    with supervised(notes.process("runner"), notes.process("judas")) as supervisor:
        supervisor.begin(EPOCH)
        wait_until(lambda: len(notes.pids()) == 2)
        os.kill(supervisor.pid, signal.SIGKILL)

        wait_until(lambda: not any(map(is_alive, notes.pids())), what="nobody is left")
        noticed = select.select([supervisor], [], [], 60)[0]

    assert noticed == [supervisor]


def test_they_end_when_almighty_is_killed(notes: Notes) -> None:
    told_r, told_w = os.pipe()
    almighty = os.fork()
    if almighty == 0:
        with supervised(notes.process("runner")) as supervisor:
            supervisor.begin(EPOCH)
            wait_until(lambda: notes.lives("runner"))
            os.write(told_w, str(supervisor.pid).encode())
            signal.pause()
    supervisor_pid = int(os.read(told_r, 32))

    os.kill(almighty, signal.SIGKILL)
    os.waitpid(almighty, 0)

    wait_until(lambda: not any(map(is_alive, [supervisor_pid, *notes.pids()])), what="nobody is left")
    os.close(told_r)
    os.close(told_w)


def test_one_that_does_not_end_is_killed(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "PATIENCE_S", 0.2)
    with supervised(notes.process("runner", stubborn=True)) as supervisor:
        supervisor.begin(EPOCH)
        (pid,) = wait_until(lambda: notes.lives("runner"))

        supervisor.end()

    assert not is_alive(pid)


class Turns:
    """A worker that notes its turns and wants none but those it is called to."""

    due_in_s = None

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def turn(self) -> Event:
        note = self._notes.root / f"finaud.{os.getpid()}"
        (note.parent / f"{note.name}.new").write_text(f"{begun_at(os.getpid())} 7 0")
        (note.parent / f"{note.name}.new").rename(note)
        return Event.NOTHING


def test_one_that_may_rest_lives_while_it_is_called(notes: Notes) -> None:
    called, end = pair()

    def live(epoch: Epoch, stop: int) -> int:
        answer(Turns(notes), end, stop, rests_after_s=0.05)
        return 0

    with supervised(Process("finaud", live, called=end.fileno()), notes.process("runner")) as supervisor:
        supervisor.begin(EPOCH)
        wait_until(lambda: notes.lives("runner"))
        before = notes.lives("finaud")
        called.call()
        (first,) = wait_until(lambda: notes.lives("finaud"))
        wait_until(lambda: not is_alive(first))
        # Dead is more than to rest; by its return one sees that the supervisor has looked round.
        os.kill(next(iter(notes.lives("runner"))), signal.SIGKILL)
        wait_until(lambda: len(notes.lives("runner")) == 2)
        meanwhile = notes.lives("finaud").keys()
        called.call()
        wait_until(lambda: len(notes.lives("finaud")) == 2)

    assert before == {}
    assert meanwhile == {first}


def test_one_that_may_rest_and_is_killed_is_started_again_without_a_call(notes: Notes) -> None:
    called, end = pair()

    def live(epoch: Epoch, stop: int) -> int:
        answer(Turns(notes), end, stop, rests_after_s=3600)
        return 0

    with supervised(Process("finaud", live, called=end.fileno())) as supervisor:
        supervisor.begin(EPOCH)
        called.call()
        (first,) = wait_until(lambda: notes.lives("finaud"))
        os.kill(first, signal.SIGKILL)

        wait_until(lambda: len(notes.lives("finaud")) == 2)
