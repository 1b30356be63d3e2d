"""A Gantt chart as SVG: time to the right, resources downwards, one rectangle for each run of a job's resources."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import TextIO

from oarpy.simulation.run import Lived

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 1400, 700, 70, 20, 40
#: Labels are no closer than this, and their distance is one of these numbers of seconds.
_LABEL_WIDTH = 90
_STEPS_S = (60, 300, 900, 3600, 4 * 3600, 86_400, 7 * 86_400, 28 * 86_400, 364 * 86_400)
#: A job narrower or lower than this has no number in it.
_ROOM_FOR_NUMBER = (34, 11)


def write(file: TextIO, lived: Sequence[Lived], resource_ids: Iterable[int]) -> None:
    """Draw jobs on the resources of these ids, in their order; time is told from the first submission on."""
    ids = sorted(resource_ids)
    size = max(len(ids), 1)
    begin_s = min((job.submitted_s for job in lived), default=0)
    span_s = max((job.end_s for job in lived), default=begin_s + 1) - begin_s or 1
    across, down = _WIDTH / span_s, _HEIGHT / size
    width, height = _LEFT + _WIDTH + 20, _TOP + _HEIGHT + _BOTTOM
    file.write(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="10">\n'
        f'<rect width="{width}" height="{height}" fill="white"/>\n'
    )
    for row in sorted({0, *range(max(size // 8, 1) - 1, size, max(size // 8, 1)), size - 1}) if ids else ():
        y = _TOP + (row + 0.5) * down
        file.write(f'<text x="{_LEFT - 6}" y="{y + 3:.1f}" text-anchor="end" fill="#555">{ids[row]}</text>\n')
    for second in _labels(span_s):
        x = _LEFT + second * across
        file.write(f'<path d="M{x:.1f} {_TOP}v{_HEIGHT}" stroke="#ddd"/>')
        file.write(
            f'<text x="{x:.1f}" y="{_TOP + _HEIGHT + 15}" text-anchor="middle" fill="#555">{_shown(second)}</text>\n'
        )
    for job in lived:
        x, wide = _LEFT + (job.start_s - begin_s) * across, max((job.end_s - job.start_s) * across, 0.3)
        for first, stop in job.resources:
            row = bisect_left(ids, first)
            y, high = _TOP + row * down, (bisect_left(ids, stop) - row) * down
            file.write(
                f'<rect x="{x:.2f}" y="{y:.2f}" width="{wide:.2f}" height="{high:.2f}" fill="{_colour(job)}" '
                f'stroke="white" stroke-width="0.3"><title>{_told(job, begin_s)}</title></rect>\n'
            )
            if wide >= _ROOM_FOR_NUMBER[0] and high >= _ROOM_FOR_NUMBER[1]:
                middle = f'x="{x + wide / 2:.1f}" y="{y + high / 2 + 3.5:.1f}"'
                file.write(f'<text {middle} text-anchor="middle" pointer-events="none">{job.job_id}</text>\n')
    file.write(
        f'<rect x="{_LEFT}" y="{_TOP}" width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="#555"/>\n</svg>\n'
    )


def _labels(span_s: int) -> Iterable[int]:
    step = next((one for one in _STEPS_S if one / span_s * _WIDTH >= _LABEL_WIDTH), _STEPS_S[-1])
    return range(0, span_s + 1, step)


def _shown(seconds: int) -> str:
    days, rest = divmod(seconds, 86_400)
    clock = f"{rest // 3600:02}:{rest % 3600 // 60:02}"
    return f"{days} d" + (f" {clock}" if rest else "") if days else clock


def _colour(job: Lived) -> str:
    # Neighbours in number are far apart on the circle of colours.
    return f"hsl({job.job_id * 137 % 360},60%,72%)"


def _told(job: Lived, begin_s: int) -> str:
    waited_s, ran_s = job.start_s - job.submitted_s, job.end_s - job.start_s
    return (
        f"job {job.job_id}: {job.cores} cores from {_shown(job.start_s - begin_s)} for {ran_s} s, waited {waited_s} s"
    )
