"""The guard's loop: whoever waits for something is called when it is there."""

import heapq
import select
from typing import Any, Callable, Dict, List, Optional, Tuple

from .host import clock


class Loop:
    """Owns the descriptors that are listened to and the timers; knows nothing of what they are for.

    One thread: nothing that it calls may wait.
    """

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._ears: Dict[int, Tuple[Callable[..., Any], Tuple[Any, ...]]] = {}
        self._timers: List[Tuple[float, int, Callable[..., Any], Tuple[Any, ...]]] = []
        self._timers_made = 0

    def listen(self, fd: int, act: Callable[..., Any], *arguments: Any, events: int = select.EPOLLIN) -> None:
        """Call ``act`` whenever ``fd`` is ready."""
        self._poll.register(fd, events)
        self._ears[fd] = (act, arguments)

    def change(self, fd: int, events: int) -> None:
        self._poll.modify(fd, events)

    def leave(self, fd: int) -> None:
        self._poll.unregister(fd)
        del self._ears[fd]

    def at(self, when: float, act: Callable[..., Any], *arguments: Any) -> None:
        self._timers_made += 1
        heapq.heappush(self._timers, (when, self._timers_made, act, arguments))

    def after(self, seconds: float, act: Callable[..., Any], *arguments: Any) -> None:
        self.at(clock() + seconds, act, *arguments)

    @property
    def next_at(self) -> Optional[float]:
        """When the next timer is due."""
        return self._timers[0][0] if self._timers else None

    def wait(self, patience_s: float) -> List[int]:
        """What is ready, within that time."""
        return [fd for fd, _ in self._poll.poll(patience_s)]

    def serve(self, ready: List[int]) -> None:
        for fd in ready:
            # What came before may have left it.
            if fd in self._ears:
                act, arguments = self._ears[fd]
                act(*arguments)

    def fire(self) -> None:
        """Do what is due."""
        while self._timers and self._timers[0][0] <= clock():
            _, _, act, arguments = heapq.heappop(self._timers)
            act(*arguments)
