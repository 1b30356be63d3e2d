"""Commands as users run them, and a server that answers as the test says."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy.exc import DBAPIError

from oarpy.database import requests
from tests.support.accounts import environment_of, switched
from tests.support.postgres import TestDatabase

Answer = Mapping[str, Any]
#: A pattern: one line without the database's own vocabulary.
WORDS = r"(?!.*(relation|violates|constraint|invalid input|out of range|_check|_pkey))[^\n]+"


class Commands:
    """Runs commands on one database."""

    def __init__(self, database: TestDatabase, cwd: str) -> None:
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("OAR", "TZ"))},
            "OARPY_DATABASE": database.url,
            "OARPY_HOME": cwd,
            "TZ": "UTC",
        }
        self._cwd = cwd

    def start(
        self,
        command: str,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: pwd.struct_passwd | None = None,
    ) -> subprocess.Popen[str]:
        """The running command; the caller waits for it."""
        program = [sys.executable, "-c", f"from oarpy.commands.{command} import main; main()", *arguments]
        environment = {**self._environment, **(environment or {})}
        return subprocess.Popen(
            switched(user, program) if user else program,
            env=environment_of(user, environment) if user else environment,
            cwd=cwd or self._cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, command: str, *arguments: str, **how: Any) -> subprocess.CompletedProcess[str]:
        """What the command did; fails the test when it takes more than two minutes."""
        running = self.start(command, *arguments, **how)
        try:
            stdout, stderr = running.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            running.kill()
            running.communicate()
            raise
        return subprocess.CompletedProcess(running.args, running.returncode, stdout, stderr)


@contextmanager
def answering(
    database: TestDatabase, reply: Callable[[str, dict[str, Any]], Answer] | Answer
) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Answers requests with ``reply`` while the block runs; yields verbs and payloads as they come."""
    seen: list[tuple[str, dict[str, Any]]] = []
    ended = threading.Event()

    def serve() -> None:
        while not ended.wait(0.005):
            try:
                with database.engine.begin() as conn:
                    for request in requests.pending(conn, 10):
                        payload = json.loads(request.payload)
                        seen.append((request.verb, payload))
                        answer = reply(request.verb, payload) if callable(reply) else reply
                        requests.answer(conn, {request.request_id: answer})
            except DBAPIError:
                # A test may end sessions; the next round has a new one.
                database.engine.dispose()

    server = threading.Thread(target=serve)
    server.start()
    try:
        yield seen
    finally:
        ended.set()
        server.join()


def stored_requests(database: TestDatabase) -> list[tuple[object, ...]]:
    """Verb and state of every request on the table."""
    return database.execute("SELECT verb, state FROM requests ORDER BY request_id")
