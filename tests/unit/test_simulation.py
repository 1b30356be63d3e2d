"""The simulator: traces read, virtual time, figures, files."""

from __future__ import annotations

import csv
import gzip
import json
import os
import random
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from oarpy.commands.simulate import simulate as command
from oarpy.errors import RequestRefused
from oarpy.model.states import JobId, Replan
from oarpy.scheduling.snapshot import Limits, Queue
from oarpy.simulation import picture, platform_file, swf
from oarpy.simulation.figures import figures
from oarpy.simulation.run import Course, Lived, simulate

TO_THE_SECOND = Limits(grid_s=1, security_s=0)


def line(job: int, submitted: int, runs: int, cores: int, asks_s: int = -1, had: int = -1) -> str:
    return f"{job} {submitted} 0 {runs} {had} -1 -1 {cores} {asks_s} -1 1 7 7 -1 -1 -1 -1 -1"


def trace(tmp_path: Path, *lines: str, head: str = "; MaxProcs: 4") -> str:
    path = tmp_path / "trace.swf"
    path.write_text("\n".join([head, *lines]) + "\n")
    return str(path)


def course(path: str, *, depth: int | None = None, replan: Replan = Replan.NOTHING) -> Course:
    return simulate(swf.read(path, Queue("default", 1, depth=depth, replan=replan)), TO_THE_SECOND)


def starts(of: Course) -> dict[JobId, int]:
    return {job.job_id: job.start_s for job in of.lived}


def synthetic(tmp_path: Path, seed: int, jobs: int = 300) -> str:
    rng = random.Random(seed)
    lines, now = [], 0
    for number in range(1, jobs + 1):
        now += rng.choice((0, 5, 60, 300))
        runs = rng.choice((1, 30, 200, 1000))
        lines.append(line(number, now, runs, rng.choice((1, 1, 2, 3, 4)), runs * rng.choice((1, 2, 5))))
    return trace(tmp_path, *lines)


def test_a_job_is_cut_at_what_it_asked_for(tmp_path: Path) -> None:
    of = course(trace(tmp_path, line(1, 100, 500, 1, 60)))

    assert of.lived == [Lived(JobId(1), 100, 100, 160, ((1, 2),), 1, cut=True)]


def test_easy_lets_a_short_job_pass_that_delays_not_the_first(tmp_path: Path) -> None:
    path = trace(tmp_path, line(1, 0, 100, 3), line(2, 1, 50, 4), line(3, 2, 99, 1), line(4, 3, 90, 1))

    assert starts(course(path, depth=1)) == {1: 0, 2: 100, 3: 150, 4: 3}


def test_a_job_that_ends_early_moves_others_earlier(tmp_path: Path) -> None:
    path = trace(tmp_path, line(1, 0, 10, 4, 1000), line(2, 1, 10, 4, 1000))

    assert starts(course(path)) == starts(course(path, replan=Replan.EARLIER)) == {1: 0, 2: 10}


@pytest.mark.parametrize("replan", list(Replan))
@pytest.mark.parametrize("depth", [None, 1, 3])
@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_given_twice_and_everything_runs(
    tmp_path: Path, seed: int, depth: int | None, replan: Replan
) -> None:
    of = course(synthetic(tmp_path, seed), depth=depth, replan=replan)

    assert len(of.lived) == 300
    for i, job in enumerate(of.lived):
        assert job.start_s >= job.submitted_s
        for other in of.lived[:i]:
            together = job.start_s < other.end_s and other.start_s < job.end_s
            assert not together or not cores(job) & cores(other)


def cores(job: Lived) -> set[int]:
    return {core for first, stop in job.resources for core in range(first, stop)}


def test_what_never_ran_or_is_too_large_is_left_out_and_counted(tmp_path: Path) -> None:
    workload = swf.read(
        trace(tmp_path, line(1, 0, -1, 1), line(2, 0, 5, 9), line(3, 0, 5, -1, had=2)), Queue("default", 1)
    )

    assert workload.left_out == {"never ran": 1, "larger than the machine": 1}
    assert [(one.job.job_id, one.runs_s) for one in workload.submissions] == [(3, 5)]


def test_a_gzipped_trace_is_read_alike(tmp_path: Path) -> None:
    plain = trace(tmp_path, line(1, 0, 5, 2))
    packed = tmp_path / "trace.swf.gz"
    packed.write_bytes(gzip.compress(Path(plain).read_bytes()))

    assert starts(course(str(packed))) == starts(course(plain)) == {1: 0}


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("1 2 3", "line 2: 3 fields, where a job has 18"),
        ("1 2 3 x 5 6 7 8 9", "line 2: not all of it are numbers"),
        ("1 2 3 nan 5 6 7 8 9", "line 2: not all of it are numbers"),
        ("1 2 3 \u0664 5 6 7 8 9", "line 2 is not text"),
    ],
)
def test_a_mistake_in_a_trace_is_told_with_its_line(tmp_path: Path, bad: str, said: str) -> None:
    with pytest.raises(RequestRefused, match=said):
        course(trace(tmp_path, bad))


def test_files_that_are_no_traces_are_refused_in_a_sentence(tmp_path: Path) -> None:
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress(b"; MaxProcs: 4\n" * 1000)[:40])
    noise = tmp_path / "noise"
    noise.write_bytes(bytes(range(128, 256)))

    for path in (str(cut), str(noise), str(tmp_path), str(tmp_path / "none")):
        with pytest.raises(RequestRefused, match=r"cannot be read|not text"):
            course(path)
    for head in ("; nothing", "; MaxProcs: -4", "; MaxProcs: four"):
        with pytest.raises(RequestRefused, match="--cores"):
            course(trace(tmp_path, line(1, 0, 1, 1), head=head))
    with pytest.raises(RequestRefused, match="1000000 are the most"):
        course(trace(tmp_path, line(1, 0, 1, 1), head="; MaxProcs: 99999999999"))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("content", [bytes(99), b"; MaxProcs: 4\n1 2\0 3\n", b"; MaxProcs: 4\n" + b"7" * 20_000])
def test_what_is_no_lines_of_text_is_refused_before_it_is_all_read(
    tmp_path: Path, content: bytes, packed: bool
) -> None:
    path = tmp_path / "trace.swf"
    path.write_bytes(gzip.compress(content) if packed else content)

    with pytest.raises(RequestRefused, match=r"line [12] is not a line of text"):
        course(str(path))


def test_what_is_no_file_is_not_even_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    for path in ("/dev/zero", str(pipe)):
        with pytest.raises(RequestRefused, match="is no file"):
            course(path)


def test_a_picture_has_a_row_for_each_resource_whatever_its_id(tmp_path: Path) -> None:
    path = tmp_path / "out.svg"
    with path.open("w") as file:
        picture.write(file, [Lived(JobId(900), 0, 0, 100, ((41, 43), (7000, 7001)), 3)], [7000, 41, 42, 90])

    drawn = ElementTree.parse(path).getroot()

    heights = [float(one.attrib["height"]) for one in drawn.findall(".//{*}rect") if len(one)]
    tops = [float(one.attrib["y"]) for one in drawn.findall(".//{*}rect") if len(one)]
    assert (heights, tops) == ([350.0, 175.0], [20.0, 20 + 525.0])
    assert [one.text for one in drawn.findall(".//{*}text")][:4] == ["41", "42", "90", "7000"]


def test_comments_are_in_any_encoding_and_parts_of_a_job_told_before_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "trace.swf"
    whole, part = line(1, 0, 9, 1), line(1, 0, 4, 1)
    path.write_bytes(b"; Installation: caf\xe9\n; MaxProcs: 4\n" + f"{whole}\n{part}\n".encode())

    site = swf.read(str(path), Queue("default", 1))

    assert [each.runs_s for each in site.submissions] == [9]
    assert site.left_out == {"told before": 1}


def test_figures_are_those_of_the_literature() -> None:
    lived = [Lived(JobId(1), 0, 0, 100, ((1, 3),), 2), Lived(JobId(2), 0, 95, 100, ((3, 5),), 2)]

    of = figures(lived, 4)

    # The second waited 95 s for 5 s of work, which count as 10.
    assert (of.mean_wait_s, of.mean_bounded_slowdown) == (47.5, (1 + 10) / 2)
    assert (of.utilisation, of.makespan_s) == (210 / 400, 100)


def test_a_machine_is_described_by_its_hosts(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text('[[hosts]]\nname="c"\ncount=2\ncores=2\n[[hosts]]\nname="fat"\ncores=1\ngpu="A"\n')

    machine = platform_file.read(str(path))

    assert machine.properties["host"] == ["c1", "c1", "c2", "c2", "fat"]
    assert machine.properties["core"] == [1, 2, 3, 4, 5]
    assert machine.properties["gpu"] == [None, None, None, None, "A"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x=",
        "[[hosts]]\ncores=2",
        '[[hosts]]\nname="a"\ncores="2"',
        "hosts=3",
        '[[hosts]]\nname="a"\ncores=2\ncore=3',
    ],
)
def test_a_machine_that_is_described_wrongly_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "site.toml"
    path.write_text(text)

    with pytest.raises(RequestRefused, match=r"site\.toml"):
        platform_file.read(str(path))


def run(*words: str) -> str:
    done = CliRunner().invoke(command, words, catch_exceptions=False, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.stdout


@pytest.mark.parametrize("option", ["--jobs-out", "--gantt"])
def test_a_file_that_cannot_be_written_costs_no_figures(tmp_path: Path, option: str) -> None:
    words = [trace(tmp_path, line(1, 0, 9, 1)), option, "/dev/full"]

    done = CliRunner().invoke(command, words, standalone_mode=False)

    assert isinstance(done.exception, RequestRefused)
    assert str(done.exception) == "/dev/full cannot be written: No space left on device"
    assert "mean wait" in done.output


def test_the_command_prints_figures_and_writes_files(tmp_path: Path) -> None:
    jobs, picture = tmp_path / "jobs.csv", tmp_path / "out.svg"

    found = json.loads(run(synthetic(tmp_path, 3), "--jobs-out", str(jobs), "--gantt", str(picture), "--json"))

    assert (found["jobs"], found["cores"], found["never_started"]) == (300, 4, 0)
    with jobs.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 300
    waits = [int(row["start"]) - int(row["submit"]) for row in rows]
    assert found["mean_wait_s"] == pytest.approx(sum(waits) / 300)
    drawn = ElementTree.parse(picture).getroot()
    assert len(drawn.findall(".//{http://www.w3.org/2000/svg}title")) >= 300


def test_the_policy_makes_a_difference(tmp_path: Path) -> None:
    path = synthetic(tmp_path, 4)
    outputs = {run(path, "--policy", policy, "--json") for policy in ("conservative", "easy", "first=3")}

    assert len({json.loads(one)["mean_wait_s"] for one in outputs}) == 3
    assert "mean bounded slowdown" in run(path)


def test_it_must_be_told_what_to_simulate() -> None:
    with pytest.raises(RequestRefused, match="TRACE or --from-database"):
        run("--policy", "easy")


@pytest.mark.parametrize("words", [["--policy", "best"], ["--policy", "first=0"], ["--cores", "2", "--platform", "x"]])
def test_wrong_options_are_refused(tmp_path: Path, words: list[str]) -> None:
    with pytest.raises((RequestRefused, click.UsageError)):
        run(synthetic(tmp_path, 1, 3), *words)
