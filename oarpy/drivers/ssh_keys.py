"""Key pairs of jobs, made ahead of their use by ssh-keygen."""

from __future__ import annotations

import asyncio
import tempfile
from collections import deque
from collections.abc import Callable
from logging import getLogger
from pathlib import Path
from typing import NamedTuple

logger = getLogger(__name__)
#: So many lie ready; one takes some milliseconds to make.
STOCK = 32


class KeyPair(NamedTuple):
    """Both as OpenSSH writes them; ``public`` without a comment."""

    private: str
    public: str


class KeyStock:
    """Key pairs for jobs to come.  ``grown`` is called when there are some after there were none."""

    def __init__(self, grown: Callable[[], None]) -> None:
        self._grown = grown
        self._pairs: deque[KeyPair] = deque()
        self._filling: asyncio.Task[None] | None = None
        #: Why no key could be made when that was tried last.
        self.broken: str | None = None

    def take(self) -> KeyPair | None:
        """A pair that nobody else has got; None while there is none."""
        try:
            return self._pairs.popleft()
        except IndexError:
            return None

    def refill(self) -> None:
        """See to it that there are more; where none could be made that is tried again."""
        if len(self._pairs) < STOCK // 2 and (self._filling is None or self._filling.done()):
            self._filling = asyncio.create_task(self._fill())

    async def close(self) -> None:
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.gather(self._filling, return_exceptions=True)

    async def _fill(self) -> None:
        try:
            while len(self._pairs) < STOCK:
                self._pairs.append(await make_key_pair())
                self.broken = None
                if len(self._pairs) == 1:
                    self._grown()
        except OSError as error:
            is_news, self.broken = self.broken is None, str(error)
            if is_news:
                logger.warning("no keys can be made, so jobs have no oarsh: %s", error)
                self._grown()


async def make_key_pair() -> KeyPair:
    """Raises ``OSError`` when ssh-keygen makes none."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "key"
        words = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path))
        process = await asyncio.create_subprocess_exec(
            *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
        )
        if await process.wait() != 0:
            raise OSError(f"ssh-keygen ended with {process.returncode}")
        public = path.with_suffix(".pub").read_text().split()
        return KeyPair(path.read_text(), " ".join(public[:2]))
