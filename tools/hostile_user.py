#!/usr/bin/env python3
"""What a user with a program of their own can do to the server: one attack, until killed.

Of each attack a line is printed when it is under way, and then one now and again, so
that whoever measures what it costs others knows that it goes on.

Example:
    tools/hostile_user.py notify '{"host": "/run/oarpy", "dbname": "oarpy", "user": "oar_user"}'
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

import psycopg2

SESSIONS = 8
ASK = "SELECT count(oar.ask(gen_random_uuid(), 'submit', %s)) FROM generate_series(1, %s)"
SUBMISSION = json.dumps({"command": "true", "directory": "/tmp"})
HINTS = "".join(f"NOTIFY {channel}, '{n}';" for n in range(50) for channel in ("oar_appendice", "oar_almighty"))
FIFTY_MB = json.dumps({"command": "x" * 50_000_000, "directory": "/tmp"})


def notify(cursor: Any) -> None:
    """Wakes the server for nothing."""
    cursor.execute(HINTS)


def pending(cursor: Any) -> None:
    """Keeps a thousand requests waiting, the most there may be."""
    cursor.execute(ASK, (SUBMISSION, 100))
    time.sleep(0.05)


def submit(cursor: Any) -> None:
    """Submits good jobs without end, faster than anybody can answer."""
    cursor.execute(ASK, (SUBMISSION, 1))


def payload(cursor: Any) -> None:
    """Sends fifty megabytes, which are refused, and again."""
    cursor.execute(ASK, (FIFTY_MB, 1))


def hold(cursor: Any) -> None:
    """Keeps transactions open that have asked and have looked at everything."""
    cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    cursor.execute(ASK, (SUBMISSION, 1))
    cursor.execute("SELECT count(*) FROM oar.visible_jobs")
    time.sleep(20)
    cursor.execute("ROLLBACK")


def temporary(cursor: Any) -> None:
    """Asks for temporary tables, which nobody gets."""
    cursor.execute("CREATE TEMP TABLE t AS SELECT * FROM generate_series(1, 1000000)")


ATTACKS: dict[str, Callable[[Any], None]] = {
    attack.__name__: attack for attack in (notify, pending, submit, payload, hold, temporary)
}


def repeat(attack: Callable[[Any], None], parameters: dict[str, str], done: list[int]) -> None:
    """One session that attacks again and again, and comes back when it is thrown out."""
    while True:
        with suppress(psycopg2.OperationalError), closing(psycopg2.connect(**parameters)) as session:
            session.autocommit = True
            while not session.closed:
                done[0] += 1
                # To be refused is what most attacks are for.
                with suppress(psycopg2.errors.Error), session.cursor() as cursor:
                    attack(cursor)
        time.sleep(0.01)


def main() -> None:
    attack, parameters = ATTACKS[sys.argv[1]], json.loads(sys.argv[2])
    done = [0]
    for _ in range(SESSIONS):
        threading.Thread(target=repeat, args=(attack, parameters, done), daemon=True).start()
    while True:
        time.sleep(0.1)
        if done[0] >= SESSIONS:
            print(done[0], flush=True)


if __name__ == "__main__":
    main()
