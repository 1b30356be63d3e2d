"""What the commands share: their way in, their way out, and the server between.

Every way out is a status of ``ExitStatus`` and, unless it is 0, one sentence on
stderr.  Results alone go to stdout, because programs read it.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from errno import EBADF
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, TypeVar

import click

from oarpy import __version__
from oarpy.errors import NotAllowed, OarError, RequestRefused, SyntaxRefused
from oarpy.instance import Instance, find_instance
from oarpy.model.exit_statuses import ExitStatus

if TYPE_CHECKING:
    from oarpy.client.api import Client

F = TypeVar("F", bound=Callable[..., Any])

_UNSUPPORTED = {
    "-D": "output for Perl",
    "-X": "output as XML",
    "-Y": "output as YAML",
    "--dumper": "output for Perl",
    "--xml": "output as XML",
    "--yaml": "output as YAML",
}


#: As of a program that SIGPIPE ended.
_READER_GONE = 128 + signal.SIGPIPE
_DAY_S = 86_400
_JOB = re.compile(rb"^OAR_JOB_ID=(\d{1,18})$", re.MULTILINE)
#: How sentences of click's begin that do not say what to do.
_BARE = ("Missing ", "Got unexpected ", "No such command ")


class OarCommand(click.Command):
    """A command that knows which of OAR's options it lacks and says so.

    ``unsupported`` maps such options to what they would do.  Long options may be cut short
    where what is left is the beginning of one alone, as OAR's may.
    """

    def __init__(self, *args: Any, unsupported: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        kwargs.setdefault("context_settings", {"help_option_names": ["-h", "--help"], "max_content_width": 100})
        super().__init__(*args, **kwargs)
        self._unsupported = _UNSUPPORTED | dict(unsupported or {})

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        typed = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            what = self._unsupported.get(error.option_name)
            if what is None and (whole := self._begun_by(ctx, error.option_name)) is not None:
                return self.parse_args(ctx, _replaced(typed, error.option_name, whole))
            if what is None:
                if error.possibilities:
                    raise
                raise click.UsageError(f"{error.message.rstrip('.')}; {ctx.command_path} --help lists them") from error
            raise RequestRefused(
                f"{error.option_name} ({what}) is not supported", exit_status=ExitStatus.UNSUPPORTED
            ) from error

    def _begun_by(self, ctx: click.Context, cut: str) -> str | None:
        """The only option that begins with ``cut``."""
        if not cut.startswith("--") or any(name.startswith(cut) for name in self._unsupported):
            return None
        begun = [
            names
            for option in self.get_params(ctx)
            if (names := [name for name in option.opts if name.startswith(cut)])
        ]
        return begun[0][0] if len(begun) == 1 else None


def _replaced(args: list[str], cut: str, whole: str) -> list[str]:
    """``args`` with the option at its first place written out."""
    for at, arg in enumerate(args):
        name, equals, value = arg.partition("=")
        if name == cut:
            return [*args[:at], f"{whole}{equals}{value}", *args[at + 1 :]]
    return args


class OarGroup(click.Group):
    """A group whose commands treat options as every command of oarpy does."""

    command_class = OarCommand

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("no_args_is_help", False)
        kwargs.setdefault("context_settings", {"help_option_names": ["-h", "--help"], "max_content_width": 100})
        super().__init__(*args, **kwargs)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args:
            click.echo(ctx.get_help(), err=True)
            raise click.exceptions.Exit(ExitStatus.NOT_DEAD_OR_NO_COMMAND)
        return super().parse_args(ctx, args)


def with_version(function: F) -> F:
    """Adds ``-V`` and ``--version``."""
    return click.version_option(__version__, "-V", "--version", message="%(prog)s (oarpy) %(version)s")(function)


#: Of several the first is written, whatever the order in which they were typed: OAR's listings look for them so.
_STYLES = ("dumper", "xml", "yaml", "json")


def with_formats(function: F) -> F:
    """Adds ``-J -Y -X -D`` as the argument ``style``: json, yaml, xml, dumper or None."""
    for letter, style, said in (
        ("-D", "dumper", "As Perl's Data::Dumper writes it."),
        ("-X", "xml", "As XML, in the form of Perl's XML::Dumper."),
        ("-Y", "yaml", "As YAML."),
        ("-J", "json", "As JSON."),
    ):
        function = _style_option(letter, f"--{style}", style, said)(function)
    return function


def with_lines(function: F) -> F:
    """Adds ``--ndjson``, another ``style``, and ``--fields``."""
    function = click.option("--fields", metavar="A,B,...", help="These fields alone, in any format.")(function)
    return _style_option("--ndjson", "ndjson", "One JSON object a line, for big lists.")(function)


def _style_option(*names: str) -> Callable[[F], F]:
    *flags, style, said = names

    def choose(ctx: click.Context, _option: click.Parameter, given: bool) -> None:
        chosen = ctx.params.setdefault("style", None)
        if not given or chosen == style:
            return
        if chosen is not None and "ndjson" in (chosen, style):
            sentence = f"--ndjson and --{style if chosen == 'ndjson' else chosen} are two formats; choose one"
            raise SyntaxRefused(sentence, exit_status=ExitStatus.REFUSED)
        ctx.params["style"] = style if chosen is None else min(chosen, style, key=_STYLES.index)
        ctx.set_parameter_source("style", click.core.ParameterSource.COMMANDLINE)

    return click.option(*flags, is_flag=True, expose_value=False, callback=choose, help=said)


class OutputLost(OarError):
    """Results cannot be written to where stdout leads."""

    exit_status = ExitStatus.OUTPUT_LOST


class _Output(FileIO):
    """Standard output, whose faults are told from those of other files."""

    #: What could not be written; before, the line that was begun.
    unsaid = b""
    #: Whether somebody may have read something.
    begun = False

    def write(self, data: Any, /) -> int:
        try:
            written = super().write(data)
        except OSError as error:
            self.unsaid += bytes(data)
            if isinstance(error, BrokenPipeError):
                raise
            reason = "it is closed" if error.errno == EBADF else error.strerror
            done = _jobs_of(self.unsaid) or "what was asked for may have been done"
            raise OutputLost(f"standard output cannot be written ({reason}); {done}") from error
        # On a disk that is almost full a line may be cut in two.
        _, newline, begun = bytes(data[:written]).rpartition(b"\n")
        self.unsaid = begun if newline else self.unsaid + begun
        self.begun = True
        return written


class _Complaints(FileIO):
    """Standard error, as far as it can be written: what matters is said by the status, too."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def _jobs_of(unsaid: bytes) -> str:
    """The jobs in oarsub's lines, as a part of a sentence; "" where there are none."""
    # What is in a buffer is tried once more at the end, and is here twice.
    job_ids = list(dict.fromkeys(map(int, _JOB.findall(unsaid))))
    if not job_ids:
        return ""
    if len(job_ids) == 1:
        return f"the job is {job_ids[0]}"
    if job_ids[-1] - job_ids[0] == len(job_ids) - 1:
        return f"the jobs are {job_ids[0]}-{job_ids[-1]}"
    return f"the jobs are {' '.join(map(str, job_ids))}"


def _open_the_closed() -> None:
    """Let streams that the caller closed lead nowhere, before another file takes their numbers.

    Whatever is written to standard output fails then, as it should: it holds results.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free is this one.
            os.open(os.devnull, mode)


class Interrupts:
    """What a ^C does: it interrupts, or waits, once, while it would keep from the user what has been done."""

    def __init__(self) -> None:
        self._held = False
        self._came = False

    def __call__(self, number: int, frame: object) -> None:
        # Whoever insists is heard: output that nobody reads may hold us up for ever.
        if not self._held or self._came:
            raise KeyboardInterrupt
        self._came = True

    def hold(self) -> None:
        self._held = True

    def release(self) -> None:
        """From now on it interrupts again; so does the one that has waited, at once."""
        self._held = False
        if self._came:
            self._came = False
            raise KeyboardInterrupt


interrupts = Interrupts()


def run(command: click.Command) -> NoReturn:
    """Run ``command`` as the program; does not return."""
    try:
        _run(command)
    except KeyboardInterrupt:
        os._exit(_complain(command, "interrupted", ExitStatus.INTERRUPTED))


def _run(command: click.Command) -> NoReturn:
    signal.signal(signal.SIGTERM, interrupts)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupts)
    _open_the_closed()
    output = _Output(1, "wb", closefd=False)
    sys.stdout = _text(output, sys.stdout, by_lines=output.isatty())
    sys.stderr = _text(_Complaints(2, "wb", closefd=False), sys.stderr, by_lines=True)
    if sys.stdin is None:
        sys.stdin = os.fdopen(0)
    status = _status(command)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        status = status or _READER_GONE
    except OutputLost as error:
        if status != ExitStatus.OUTPUT_LOST:
            status = _complain(command, str(error), ExitStatus.OUTPUT_LOST)
    # Who leaves after the first lines had enough of them.
    if status == _READER_GONE and not output.begun and (jobs := _jobs_of(output.unsaid)):
        _complain(command, f"nobody reads standard output; {jobs}", status)
    with suppress(OSError):
        sys.stderr.flush()
    # Taking the interpreter down in order costs 5 ms and frees nothing that the kernel does not.
    os._exit(status)


def _text(file: FileIO, instead_of: TextIO | None, *, by_lines: bool) -> TextIOWrapper:
    """``file`` as a stream of text, as the one was of which it takes the place."""
    return TextIOWrapper(
        BufferedWriter(file),
        encoding=None if instead_of is None else instead_of.encoding,
        # A name that the caller's locale cannot show is no reason to fail.
        errors="backslashreplace",
        line_buffering=by_lines,
    )


def _status(command: click.Command) -> int:
    try:
        _check_time_zone()
        # Not command.main(): its own ways out print more than a sentence.
        with command.make_context(command.name, sys.argv[1:]) as ctx:
            return int(command.invoke(ctx) or 0)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        return _complain(command, _with_help(error), ExitStatus.REFUSED)
    except OarError as error:
        return _complain(command, str(error), getattr(error, "exit_status", ExitStatus.DEFECT))
    except (KeyboardInterrupt, click.Abort):
        return _complain(command, "interrupted", ExitStatus.INTERRUPTED)
    except BrokenPipeError:
        # The reader had enough; so would `yes | head` end.
        return _READER_GONE
    except Exception as error:
        if os.environ.get("OARPY_TRACEBACK"):
            raise
        sentence = f"a defect of oarpy ({type(error).__name__}: {error}); OARPY_TRACEBACK=1 shows where"
        return _complain(command, sentence, ExitStatus.DEFECT)


def _check_time_zone() -> None:
    """Raises ``SyntaxRefused`` for one that libc takes for good, and Python cannot count with."""
    zone = os.environ.get("TZ")
    if zone and abs(time.localtime().tm_gmtoff) >= _DAY_S:
        sentence = f"TZ={zone[:40]} is no time zone: it is a day or more away from UTC"
        raise SyntaxRefused(sentence, exit_status=ExitStatus.REFUSED)


def _with_help(error: click.ClickException) -> str:
    """What click says, and where to look further if it says no more than that something is wrong."""
    sentence = error.format_message()
    path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx is not None else None
    if path is None or "--help" in sentence or not sentence.startswith(_BARE):
        return sentence
    return f"{sentence.rstrip('.')}; {path} --help shows how it is used"


def _complain(command: click.Command, sentence: str, status: int) -> int:
    # The status tells where stderr does not lead anywhere either.
    with suppress(OSError):
        click.echo(f"{command.name}: {' '.join(sentence.split())}", err=True)
    return status


def program() -> str:
    """The name of the command that runs."""
    return click.get_current_context().command.name or "oarpy"


def is_said(ctx: click.Context, name: str) -> bool:
    """Whether an option was named, in whatever words; else it has its default."""
    return ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def tell(line: str) -> None:
    """Something to know that is neither result nor refusal."""
    click.echo(f"# {line}", err=True)


def complain(sentence: str) -> None:
    """The reason why one of several things asked for was refused."""
    click.echo(f"{program()}: {' '.join(sentence.split())}", err=True)


def own_instance() -> Instance:
    """The instance of this process, which must be its owner.

    Not even root acts on another's: what it started would read rules and settings that
    the owner may change.
    """
    instance = find_instance()
    if os.geteuid() != instance.owner:
        # Who has just cloned the repository may not know that the machine has one.
        own = "" if os.environ.get("OARPY_HOME") else "; OARPY_HOME=DIR means an instance of your own"
        raise NotAllowed(
            f"{instance.home} belongs to another account; only that one may do this{own}", exit_status=ExitStatus.DENIED
        )
    return instance


def client(*, shows: bool = False, creates: bool = False) -> Client:
    """The `oarpy.client.Client` that the command is; one that ``shows`` what happens does so as long as it is read.

    One that ``creates`` jobs holds back a ^C from the answer on, until the caller has told their ids.
    """
    from oarpy.client.api import Client

    output, answered = sys.stdout.fileno() if shows else None, interrupts.hold if creates else None
    return Client(program(), tell, output, answered)


def connect() -> Any:
    """A session as the user who runs the command."""
    from oarpy.client.connection import Connection

    return Connection.open(find_instance(), program())


def connect_as_admin() -> Any:
    """A session as the role that owns the tables; raises ``NotAllowed`` with status 8."""
    from oarpy.client.connection import ADMIN, Connection

    return Connection.open(find_instance(), program(), ADMIN)


def administered_instance() -> Instance:
    """The instance of this process, which with a private PostgreSQL must be its owner or root."""
    instance = find_instance()
    if os.path.isdir(instance.data_dir) and os.geteuid() not in (0, instance.owner):
        raise NotAllowed("only root and the owner of the instance may do this", exit_status=ExitStatus.DENIED)
    return instance


def ask(verb: str, payload: Mapping[str, Any], *, key: str | None = None, creates: bool = False) -> Mapping[str, Any]:
    """The server's answer to one request; raises ``RequestRefused`` when that is what it answers."""
    return client(creates=creates).ask(verb, payload, key)
