"""A submission as it is made of what people and programs write."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from oarpy.errors import RequestRefused
from oarpy.model.dependencies import parse_dependency
from oarpy.model.payloads import Submission
from oarpy.model.resource_grammar import parse_wishes


def submission_of(
    command: str,
    directory: str | None = None,
    *,
    resources: Sequence[str] = (),
    properties: Sequence[str] = (),
    types: Sequence[str] = (),
    after: Sequence[str] = (),
    **fields: Any,
) -> Submission:
    """The submission of ``command``, a line for the shell, in the words of ``oarsub``.

    Each of ``resources`` is a ``-l``, of ``properties`` a ``-p``, of ``types`` a ``-t``, of ``after``
    an ``-a``; ``fields`` are others of ``Submission``, as they are.  A directory that is no
    full path is below the current one.

    Raises:
        RequestRefused: a word cannot be read.
    """
    return Submission(
        command=command,
        directory=in_current_directory(directory),
        wishes=parse_wishes(resources),
        resources=tuple(resources),
        types=tuple(map(_type, types)),
        dependencies=tuple(map(parse_dependency, after)),
        umask=_umask(),
        **_filtered(properties),
        **fields,
    )


def in_current_directory(path: str | None = None) -> str:
    """The full name of ``path``; of the current directory without one."""
    if path and os.path.isabs(path):
        return path
    try:
        current = os.getcwd()
    except FileNotFoundError as error:
        raise RequestRefused("the current directory does not exist any more; cd to another one") from error
    except OSError as error:
        raise RequestRefused(f"the current directory cannot be told: {error.strerror}") from error
    return os.path.join(current, path) if path else current


def _type(text: str) -> str:
    if not text.startswith(("postpone=", "deadline=", "expire=")):
        return text
    from datetime import datetime

    from oarpy.model.job_dates import with_offset

    return with_offset(text, datetime.now().astimezone())


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _filtered(properties: Sequence[str]) -> dict[str, Any]:
    # OAR takes -p '' for none, and programs write it so.
    properties = [text for text in properties if text.strip()]
    if not properties:
        return {}
    from oarpy.model.filter_grammar import all_of, parse_filter

    trees = [parse_filter(text) for text in properties]
    text = properties[0] if len(properties) == 1 else " AND ".join(f"({text})" for text in properties)
    return {"properties": text, "filter": all_of(*trees)}
