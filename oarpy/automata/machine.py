"""A finite automaton as a table of edges, with its drawing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Generic, NamedTuple, TypeVar

from oarpy.errors import IllegalTransition

S = TypeVar("S", bound=Enum)
E = TypeVar("E", bound=Enum)


class Edge(NamedTuple, Generic[S, E]):
    """In state ``before``, ``event`` leads to ``after``."""

    before: S
    event: E
    after: S


class Automaton(Generic[S, E]):
    """States and the events that lead from one to another.

    Raises ``ValueError`` when two edges leave the same state by the same event.
    """

    def __init__(
        self,
        name: str,
        *,
        initial: Iterable[S],
        edges: Iterable[Edge[S, E]],
        final: Iterable[S] = (),
    ) -> None:
        self.name = name
        self.initial = tuple(initial)
        self.final = frozenset(final)
        self.edges = tuple(edges)
        self._next: dict[tuple[S, E], S] = {}
        for edge in self.edges:
            if (edge.before, edge.event) in self._next:
                raise ValueError(f"{name}: two edges for {edge.before} and {edge.event}")
            self._next[edge.before, edge.event] = edge.after

    def after(self, state: S, event: E) -> S:
        """The state that follows; raises ``IllegalTransition`` when there is none."""
        try:
            return self._next[state, event]
        except KeyError:
            raise IllegalTransition(f"{self.name}: {event.name} in state {state.value}") from None

    def moves(self, event: E) -> Mapping[S, S]:
        """Each state that knows ``event``, with the state after it."""
        return {edge.before: edge.after for edge in self.edges if edge.event is event}

    def states(self) -> Iterator[S]:
        """Every state named by an edge, in the order of the table."""
        seen = dict.fromkeys(self.initial)
        for edge in self.edges:
            seen |= dict.fromkeys((edge.before, edge.after))
        return iter(seen)

    def pairs(self) -> frozenset[tuple[S, S]]:
        """Every (before, after), whatever the event."""
        return frozenset((edge.before, edge.after) for edge in self.edges)
