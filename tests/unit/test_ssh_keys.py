"""The stock of keys for jobs."""

from __future__ import annotations

import asyncio

import pytest

from oarpy.drivers import ssh_keys
from oarpy.drivers.ssh_keys import KeyPair, KeyStock


def test_keys_that_could_not_be_made_once_are_made_later(monkeypatch: pytest.MonkeyPatch) -> None:
    faults = ["the disk is full", "the disk is full"]

    async def make() -> KeyPair:
        if faults:
            raise OSError(faults.pop())
        return KeyPair("private", "public")

    async def tried() -> list[tuple[str | None, bool, int]]:
        told: list[int] = []
        stock = KeyStock(lambda: told.append(1))
        seen = []
        for _ in range(3):
            stock.refill()
            assert stock._filling is not None
            await stock._filling
            seen.append((stock.broken, stock.take() is not None, len(told)))
        return seen

    monkeypatch.setattr(ssh_keys, "make_key_pair", make)

    # That it fails again is no news, which would begin another turn that tries it.
    assert asyncio.run(tried()) == [("the disk is full", False, 1), ("the disk is full", False, 1), (None, True, 2)]
