"""Whether a request could be satisfied at all, asked when it is submitted."""

from __future__ import annotations

from oarpy.errors import NeverFits
from oarpy.model.request import ResourceRequest
from oarpy.scheduling.explain import sentence
from oarpy.scheduling.platform import Platform


def feasible(platform: Platform, request: ResourceRequest) -> None:
    """Let a request pass of which some alternative fits the empty machine, out-of-service resources included.

    Raises:
        NeverFits: none does; the sentence says in numbers what the first of them lacks.
    """
    prepared = platform.demands(platform.lasting).of(request)
    if prepared.refusal is not None:
        raise NeverFits(sentence(prepared.refusal))
