"""Runners that serve in a thread of the test."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from oarpy.modules import runner
from oarpy.modules.context import Context
from oarpy.ports.executor import Executor


@contextmanager
def serving(ctx: Context, reach: Callable[[str], Executor]) -> Iterator[list[BaseException]]:
    """A runner of the hosts that ``reach`` reaches; why it ended, once it has."""
    stop, stopper = os.pipe()
    ended: list[BaseException] = []

    def serve() -> None:
        try:
            asyncio.run(runner.Runner(ctx, reach).serve(stop))
        except Exception as error:
            ended.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield ended
    finally:
        os.write(stopper, b"x")
        thread.join(timeout=60)
        os.close(stop)
        os.close(stopper)
        assert not thread.is_alive()
