"""``oar_resources_add``: generate the resources of many hosts that are alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import click

from oarpy.client import resources
from oarpy.client.connection import Connection
from oarpy.commands import new_resources
from oarpy.commands.session import OarCommand, connect, run, with_version
from oarpy.errors import SyntaxRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.resource_generation import MOST_ROWS, generated, parse_generation
from oarpy.model.wording import excerpt

COUNT = click.IntRange(1, MOST_ROWS)
OFFSET = click.IntRange(0, 2**31 - 1)
#: What is numbered across all hosts.
NUMBERED = ("cpu", "core", "thread", "gpu")


class Shape(NamedTuple):
    """How many of each there are in the thing around it, and how the kernel numbers them."""

    hosts: int
    cpus: int
    cores: int
    threads: int
    gpus: int | None
    use_threads: bool
    cpusets: int | None
    cputopo: tuple[int, ...] | str | None
    gpudevices: int | None
    gputopo: tuple[int, ...] | None
    device_prefix: str


@click.command("oar_resources_add", cls=OarCommand)
@click.argument("expression", metavar="[EXPRESSION]", required=False)
@click.option("-T", "--use-threads", is_flag=True, help="A resource for each thread, in place of each core.")
@click.option("-H", "--hosts", type=COUNT, metavar="N", help="Number of hosts.")
@click.option("-C", "--cpus", type=COUNT, default=1, metavar="N", help="Of processors in a host; 1.")
@click.option("-c", "--cores", type=COUNT, default=1, metavar="N", help="Of cores in a processor; 1.")
@click.option("-t", "--threads", type=COUNT, default=1, metavar="N", help="Of threads in a core; 1.")
@click.option("-g", "--gpus", type=COUNT, metavar="N", help="Of GPUs in a host, divided evenly over its cores.")
@click.option("--host-prefix", default="node-", metavar="TEXT", help="What the names of hosts begin with; node-.")
@click.option("--host-suffix", default="", metavar="TEXT", help="And end with, such as .grid.")
@click.option("--host0", type=OFFSET, metavar="N", help="The number of the first host; 1.")
@click.option("--cpu0", type=OFFSET, metavar="N", help="Of the first processor; 0.")
@click.option("--core0", type=OFFSET, metavar="N", help="Of the first core; 0.")
@click.option("--thread0", type=OFFSET, metavar="N", help="Of the first thread; 0.")
@click.option("--gpu0", type=OFFSET, metavar="N", help="Of the first GPU; 0.")
@click.option("--cpusets", type=COUNT, metavar="N", help="The host has only so many processors in truth.")
@click.option("--cputopo", metavar="LIST|RR", help="The kernel's numbers of the threads in order, or RR: dealt out.")
@click.option("--gpudevices", type=COUNT, metavar="N", help="The host has only so many GPUs in truth.")
@click.option("--gpudevice-prefix", default="", metavar="PATH", help="What gpudevice begins with: /dev/nvidia.")
@click.option("--gputopo", metavar="LIST", help="The numbers of the GPU devices in order.")
@click.option("-A", "--append", default="", metavar="TEXT", help='More properties: "-p mem=64000 -p cluster=blue".')
@click.option("-o", "--write-to", metavar="FILE", help="Write the commands to a file.")
@click.option("-p", "--no-create-properties", is_flag=True, help="Make no properties, resources alone.")
@click.option("-a", "--auto-offset", is_flag=True, help="Number on from what is in the tables.")
@click.option("-Y", "--yaml", "as_yaml", is_flag=True, help="Show the resources as YAML.")
@click.option("-x", "--execute", is_flag=True, help="Add them now, all or none, and write no commands.")
@with_version
def oar_resources_add(
    expression: str | None,
    use_threads: bool,
    hosts: int | None,
    cpus: int,
    cores: int,
    threads: int,
    gpus: int | None,
    host_prefix: str,
    host_suffix: str,
    host0: int | None,
    cpu0: int | None,
    core0: int | None,
    thread0: int | None,
    gpu0: int | None,
    cpusets: int | None,
    cputopo: str | None,
    gpudevices: int | None,
    gpudevice_prefix: str,
    gputopo: str | None,
    append: str,
    write_to: str | None,
    no_create_properties: bool,
    auto_offset: bool,
    as_yaml: bool,
    execute: bool,
) -> None:
    """Write the commands that add the resources of hosts that are alike; -x adds them.

    \b
    Examples:
        oar_resources_add -H 16 -C 2 -c 8 -A 'mem=64000'
        oar_resources_add -x -a '/host=node-{01-16}.grid/cpu={2}/core={8}'

    EXPRESSION names the hosts and what is in each: {8} is eight, numbered across all
    hosts; {01-16} and {1,3,5} are parts of names.
    """
    if (hosts is None) == (expression is None):
        raise SyntaxRefused("-H, or an expression such as /host=node-{1-4}/core={8}", exit_status=ExitStatus.REFUSED)
    if execute and (write_to is not None or as_yaml):
        raise SyntaxRefused("-x writes no commands; -o and -Y do not go with it", exit_status=ExitStatus.REFUSED)
    extra = new_resources.extra_properties(append)
    offsets = {"cpu": cpu0, "core": core0, "thread": thread0, "gpu": gpu0}
    connection: Connection | None = connect() if auto_offset else None
    if expression is not None:
        shaped = _given({"-C": cpus, "-c": cores, "-t": threads, "-g": gpus})
        if shaped or use_threads or cputopo or gputopo or cpusets or gpudevices or host0 is not None:
            raise SyntaxRefused(
                "the expression tells what is in a host; other options do not", exit_status=ExitStatus.REFUSED
            )
        levels = parse_generation(expression)
        first = _offsets(offsets, connection, (level.name for level in levels if level.counted))
        rows = [{**row, **extra} for row in generated(levels, first)]
    else:
        shape = Shape(
            *(hosts or 1, cpus, cores, threads, gpus, use_threads, cpusets),
            cputopo="RR" if (cputopo or "").upper() == "RR" else _numbers("--cputopo", cputopo),
            gpudevices=gpudevices,
            gputopo=_numbers("--gputopo", gputopo),
            device_prefix=gpudevice_prefix,
        )
        _check(shape)
        if host0 is None and connection is not None:
            taken = resources.hosts_named(connection, host_prefix, host_suffix)
            host0 = max((int(each) for each in taken if each.isascii() and each.isdigit()), default=0) + 1
        first = _offsets(offsets, connection, NUMBERED)
        names = [f"{host_prefix}{(1 if host0 is None else host0) + n}{host_suffix}" for n in range(shape.hosts)]
        rows = [{**row, **extra} for row in _rows(shape, names, first)]
    kinds = {} if no_create_properties else new_resources.kinds_of(rows)
    if execute:
        new_resources.add(rows, kinds)
        return
    text = _yaml(rows) if as_yaml else new_resources.script(rows, kinds)
    if write_to is None:
        click.echo(text, nl=False)
    else:
        new_resources.write_script(text, write_to)


def _given(options: Mapping[str, int | None]) -> bool:
    return any(number not in (None, 1) for number in options.values())


def _offsets(said: Mapping[str, int | None], conn: Connection | None, names: Iterable[str]) -> dict[str, int]:
    wanted = list(names)
    free = new_resources.next_numbers(conn, wanted) if conn is not None else {}
    numbers = {}
    for name in wanted:
        chosen = said.get(name)
        numbers[name] = free.get(name, 0) if chosen is None else chosen
    return numbers


def _check(shape: Shape) -> None:
    per_host = shape.cpus * shape.cores
    rows = shape.hosts * per_host * (shape.threads if shape.use_threads else 1)
    if rows > MOST_ROWS:
        raise SyntaxRefused(f"these are {rows} resources; {MOST_ROWS} are the most", exit_status=ExitStatus.REFUSED)
    if shape.gpus is not None and per_host % shape.gpus:
        raise SyntaxRefused(
            f"{per_host} cores of a host cannot be divided over {shape.gpus} GPUs", exit_status=ExitStatus.REFUSED
        )
    if isinstance(shape.cputopo, tuple) and len(shape.cputopo) != per_host * shape.threads:
        raise SyntaxRefused(
            f"--cputopo has {len(shape.cputopo)} numbers for {per_host * shape.threads} threads",
            exit_status=ExitStatus.REFUSED,
        )
    if shape.gputopo is not None and len(shape.gputopo) != shape.gpus:
        raise SyntaxRefused(
            f"--gputopo has {len(shape.gputopo)} numbers for {shape.gpus or 0} GPUs", exit_status=ExitStatus.REFUSED
        )
    if shape.gpus is None and (shape.gpudevices is not None or shape.device_prefix):
        raise SyntaxRefused("--gpudevices and --gpudevice-prefix go with -g", exit_status=ExitStatus.REFUSED)


def _rows(shape: Shape, names: Sequence[str], first: Mapping[str, int]) -> list[dict[str, str]]:
    rows = []
    per_host = shape.cpus * shape.cores
    for host, name in enumerate(names):
        for place in range(per_host):
            cpu = place // shape.cores
            row = {
                "host": name,
                "cpu": str(first["cpu"] + host * shape.cpus + cpu),
                "core": str(first["core"] + host * per_host + place),
            }
            if shape.gpus is not None:
                gpu = place // (per_host // shape.gpus)
                row["gpu"] = str(first["gpu"] + host * shape.gpus + gpu)
                row["gpudevice"] = f"{shape.device_prefix}{_device(shape, gpu)}"
            kernels = [_processor(shape, place, thread) for thread in range(shape.threads)]
            if shape.use_threads:
                begin = first["thread"] + (host * per_host + place) * shape.threads
                rows += [row | {"thread": str(begin + n), "cpuset": str(each)} for n, each in enumerate(kernels)]
            else:
                rows.append(row | {"cpuset": ",".join(map(str, dict.fromkeys(kernels)))})
    return rows


def _processor(shape: Shape, place: int, thread: int) -> int:
    """The kernel's number of a thread of the core at ``place`` in its host."""
    if shape.cputopo == "RR":
        # First all cores in turn over the processors, then their second threads likewise.
        cpu, core = divmod(place, shape.cores)
        number = core * shape.cpus + cpu + thread * shape.cpus * shape.cores
    else:
        number = place * shape.threads + thread
        if isinstance(shape.cputopo, tuple):
            number = shape.cputopo[number]
    return number % shape.cpusets if shape.cpusets else number


def _device(shape: Shape, gpu: int) -> int:
    number = gpu if shape.gputopo is None else shape.gputopo[gpu]
    return number % shape.gpudevices if shape.gpudevices else number


def _numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    words = text.replace(",", " ").split()
    if not words or not all(word.isascii() and word.isdigit() and len(word) <= 6 for word in words):
        raise SyntaxRefused(f"{option} wants numbers, not {excerpt(text)}", exit_status=ExitStatus.REFUSED)
    return tuple(map(int, words))


def _yaml(rows: Sequence[Mapping[str, str]]) -> str:
    lines = ["---"]
    for row in rows:
        for place, (name, value) in enumerate(row.items()):
            plain = value.isascii() and value.isdigit()
            quoted = value if plain else "'" + value.replace("'", "''") + "'"
            lines.append(f"{'  ' if place else '- '}{name}: {quoted}")
    return "\n".join(lines) + "\n"


def main() -> None:
    run(oar_resources_add)
