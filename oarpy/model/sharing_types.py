"""The job types by which jobs are placed among others: containers, time-sharing, placeholders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from oarpy.errors import SyntaxRefused
from oarpy.model.job_types import BESTEFFORT, has_type, split_job_type
from oarpy.model.states import JobId
from oarpy.model.wording import excerpt

CONTAINER = "container"
INNER = "inner"
TIMESHARING = "timesharing"
PLACEHOLDER = "placeholder"
ALLOWED = "allowed"
#: In place of a container's id: a job that lies in none.
MACHINE = JobId(0)


class SharingTypes(NamedTuple):
    """``timesharing``: whether only jobs of the same user, and of the same name, may share."""

    timesharing: tuple[bool, bool] | None = None
    placeholder: str | None = None
    allowed: str | None = None


def sharing_types(types: Iterable[str]) -> SharingTypes:
    """What ``types`` say of sharing; a type that says it wrongly says nothing."""
    found: dict[str, str] = {}
    for each in types:
        name, value = split_job_type(each)
        if name in (TIMESHARING, PLACEHOLDER, ALLOWED):
            found.setdefault(name, value or "")
    fields = found.get(TIMESHARING)
    return SharingTypes(
        None if fields is None else _timesharing(fields), found.get(PLACEHOLDER) or None, found.get(ALLOWED) or None
    )


def container_name(types: Iterable[str]) -> str | None:
    """The name of the container that a job of these types is, "" without one; None if it is none."""
    for each in types:
        name, value = split_job_type(each)
        if name == CONTAINER:
            return value or ""
    return None


def container_of(types: Iterable[str]) -> str | None:
    """The id or the name of the container that a job of these types is to lie in; None if in none."""
    for each in types:
        name, value = split_job_type(each)
        if name == INNER:
            return value or ""
    return None


def is_container_id(container: str) -> bool:
    """Whether a container is meant by its id, and not by its name."""
    return container.isascii() and container.isdecimal() and len(container) < 19


def is_placed_apart(types: Iterable[str]) -> bool:
    """Whether a job of these types may be placed elsewhere than among free resources of the machine."""
    return any(split_job_type(each)[0] in (INNER, TIMESHARING, PLACEHOLDER, ALLOWED) for each in types)


def check_sharing(types: Sequence[str]) -> None:
    """Raises ``SyntaxRefused`` for types that do not say what they should, or contradict one another."""
    for each in types:
        name, value = split_job_type(each)
        if name in (INNER, PLACEHOLDER, ALLOWED) and not value:
            raise SyntaxRefused(f"the type {name} needs a value, as in {name}=NAME")
        if name == TIMESHARING and _timesharing(value or "") is None:
            raise SyntaxRefused(f"{excerpt(each)} is not a job type; write timesharing=user,name with * for either")
    for name in (CONTAINER, INNER, TIMESHARING, PLACEHOLDER, ALLOWED):
        if sum(split_job_type(each)[0] == name for each in types) > 1:
            raise SyntaxRefused(f"a job has one type {name} at most")
    if has_type(types, PLACEHOLDER):
        for name in (ALLOWED, TIMESHARING, BESTEFFORT):
            if has_type(types, name):
                raise SyntaxRefused(f"a job is either of type {PLACEHOLDER} or of type {name}")


def _timesharing(value: str) -> tuple[bool, bool] | None:
    fields = value.split(",") if value else ["*", "*"]
    if len(fields) != 2 or fields[0] not in ("user", "*") or fields[1] not in ("name", "*"):
        return None
    return fields[0] == "user", fields[1] == "name"
