"""Who may use at once what somebody else was given: time-sharing and placeholders.

Both are told by *pools*: sets of resources that are not free, and yet may be had by
those who know the pool.  Jobs of type ``timesharing`` whose user and name (or ``*``)
are the same put what they get into one pool and take from it.  A ``placeholder=NAME``
puts what it gets into the pool of its name, and jobs of type ``allowed=NAME`` take it
out: two of these never share.

A pool is known by its name, which is also what the database tells sharers by: see
``oarpy.database.plans``.  The user and the name are compared for equality, the ``*``
as a value of its own.  So jobs that may share form classes, each of which one number
can stand for: a job (user, *) shares with jobs (user, *) of the same user and not with
a job (*, *), as in OAR.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from oarpy.model.sharing_types import sharing_types


class Sharing(NamedTuple):
    """The pools a job may take from, and the one into which what it gets is put.

    ``placeholder`` is the pool of the placeholder that the job is (it joins it) or that
    it is allowed in.
    """

    uses: tuple[str, ...] = ()
    joins: str | None = None
    placeholder: str | None = None

    @property
    def leaves(self) -> tuple[str, ...]:
        """The pools that no longer have what the job gets."""
        return tuple(pool for pool in self.uses if pool != self.joins)


ALONE = Sharing()


@lru_cache(10_000)
def sharing(types: tuple[str, ...], user: str, name: str, *, besteffort: bool) -> Sharing:
    """How a job of these types shares.

    A besteffort job shares with besteffort jobs only, which die together where they are
    in somebody's way.
    """
    wanted = sharing_types(types)
    if wanted.placeholder is not None and not besteffort:
        pool = _pool("placeholder", wanted.placeholder)
        return Sharing(joins=pool, placeholder=pool)
    allowed = None if wanted.allowed is None else _pool("placeholder", wanted.allowed)
    shared = None
    if wanted.timesharing is not None:
        by_user, by_name = wanted.timesharing
        # What lies in a placeholder can be shared only by those who are allowed there.
        shared = _pool(
            *("timesharing", user if by_user else None, name if by_name else None, wanted.allowed, besteffort)
        )
    return Sharing(tuple(pool for pool in (shared, allowed) if pool is not None), shared, allowed)


def _pool(*key: str | bool | None) -> str:
    """The name of a pool: texts of users in quotation marks, so that no two keys have one name."""
    return repr(key)
