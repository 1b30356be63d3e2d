"""``oarstat --watch``, and ``oarstat --events --after N``."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import click

from oarpy.client import job_view
from oarpy.client.connection import Connection
from oarpy.client.feed import Feed
from oarpy.client.selection import Selection
from oarpy.commands.listing import printable, shown_date
from oarpy.commands.session import client, connect
from oarpy.errors import RequestRefused, ServerUnavailable
from oarpy.model.feed import MOST_NAMED, STATE, FeedEvent, parse_event_id

#: Between two listings at least, however much happens; and at most, because jobs grow older without any event.
PAUSE_S = 2.0
REFRESH_S = 60.0
PATIENCE_S = 10.0
NOW = "now"
_CLEAR = "\x1b[H\x1b[2J"


class _Listing(io.StringIO):
    """What will be shown on standard output, and is laid out and coloured for that."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def watch(show: Callable[[Connection], object], selection: Selection) -> int:
    """Show a listing again whenever something happened to its jobs; until all that are named are over.

    On a terminal it is written over the one before; elsewhere it is added when it has changed.
    """
    shown: str | None = None
    feed: Feed | None = None
    try:
        while True:
            # Before the look, so that what happens during it is noticed.
            feed = feed or _feed(selection)
            shown = _show_again(show, shown)
            if _is_over(selection):
                return 0
            _wait_for_change(feed)
    finally:
        if feed is not None:
            feed.close()


def show_events(selection: Selection, after: str, *, as_json: bool, goes_on: bool) -> int:
    """Show what happened after an event, in order; on and on where it ``goes_on``."""
    if selection.filter is not None:
        raise RequestRefused("--after goes with -j, --array and -u, not with a filter")
    if after == NOW and not goes_on:
        raise RequestRefused("--after now shows what is to come, with --watch")
    last = None if after == NOW else parse_event_id(after)
    of = _user(selection)
    for event in client(shows=True).events(last, **_wanted(selection, of), follow=goes_on):
        if of is not None and event.user != of:
            continue
        click.echo(json.dumps(event.to_json(), ensure_ascii=False) if as_json else _line(event))
        if goes_on:
            sys.stdout.flush()
    return 0


def _feed(selection: Selection) -> Feed:
    feed = client(shows=True).feed(**_wanted(selection, _user(selection)))
    feed.begin()
    return feed


def _wanted(selection: Selection, user: str | None) -> dict[str, Any]:
    """Which events are about the selection, as `oarpy.client.events` is told."""
    # What a condition selects, anything may change.
    if selection.filter is not None:
        return {}
    job_ids = set(selection.job_ids)
    for first, last in selection.ranges:
        if last - first >= MOST_NAMED:
            raise RequestRefused(f"more than {MOST_NAMED} jobs were named")
        job_ids.update(range(first, last + 1))
    if not job_ids and not selection.array_ids:
        return {"user": user}
    return {"job_ids": job_ids, "array_ids": selection.array_ids}


def _user(selection: Selection) -> str | None:
    if not selection.mine:
        return selection.user
    conn = connect()
    try:
        return str(conn.value("SELECT oar.me()"))
    finally:
        conn.close()


def _show_again(show: Callable[[Connection], object], shown: str | None) -> str | None:
    """What is shown now; the listing before stays where there is no server to ask."""
    buffer = _Listing(sys.stdout.isatty())
    try:
        conn = connect()
        try:
            with redirect_stdout(buffer):
                show(conn)
        finally:
            conn.close()
    except ServerUnavailable:
        if shown is None:
            raise
        return shown
    listing = buffer.getvalue()
    if sys.stdout.isatty():
        click.echo(f"{_CLEAR}{shown_date(int(time.time()))}\n{listing}", nl=False)
    elif listing != shown:
        click.echo(("" if shown is None else "\n") + listing, nl=False)
    sys.stdout.flush()
    return listing


def _wait_for_change(feed: Feed) -> None:
    begun = time.monotonic()
    deadline = begun + REFRESH_S
    while not feed.read(max(0.0, min(PATIENCE_S, deadline - time.monotonic()))):
        if time.monotonic() >= deadline:
            return
    # What happens together is shown together.
    until = begun + PAUSE_S
    while (rest_s := until - time.monotonic()) > 0:
        feed.read(rest_s)


def _is_over(selection: Selection) -> bool:
    if not selection.names_jobs:
        return False
    conn = connect()
    try:
        states = job_view.states(conn, selection)
    finally:
        conn.close()
    return all(state in ("Terminated", "Error") for _, state in states)


def _line(event: FeedEvent) -> str:
    """``1234 2026-11-21 14:00:00> [42] STATE: Running``."""
    text = event.description.rstrip()
    if event.type == STATE:
        text = " ".join(filter(None, (event.state, f"({event.end_cause})" if event.end_cause else "")))
    about = "" if event.job_id is None else f"[{event.job_id}] "
    hosts = f" {','.join(event.hosts)}" if event.hosts else ""
    return f"{event.event_id} {shown_date(int(event.date))}> {about}{event.type}{hosts}: {printable(text)}"
