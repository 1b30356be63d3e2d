"""``oarsub``: submit jobs.

On the way of this command stand click, psycopg2 and what a plain submission needs;
a test freezes the list.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import click

from oarpy.client.submissions import submission_of
from oarpy.commands.session import (
    OarCommand,
    client,
    connect,
    interrupts,
    is_said,
    run,
    tell,
    with_formats,
    with_version,
)
from oarpy.errors import RequestRefused, SyntaxRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.job_types import may_lack_command
from oarpy.model.payloads import Submission, Submitted

UNSUPPORTED = {
    "-T": "tokens for the API",
    "--api-token": "tokens for the API",
    "--stagein": "staging files in",
    "--stagein-md5sum": "staging files in",
}
_JOB_KEY = "oarpy.job_key"
#: Options whose value is a private key.
_INLINE = ("--import-job-key-inline", "--import-job-key-inline-priv")
_DATE = frozenset("0123456789-: ")


@click.command("oarsub", cls=OarCommand, unsupported=UNSUPPORTED)
@click.option(
    "-l", "--resource", multiple=True, metavar="REQUEST", help="Resources and walltime; given again, an alternative."
)
@click.option("-p", "--property", multiple=True, metavar="FILTER", help="What every resource must satisfy.")
@click.option("-q", "--queue", metavar="NAME", help="Queue.")
@click.option("-t", "--type", multiple=True, metavar="TYPE", help="Job type, such as besteffort; can be repeated.")
@click.option("-n", "--name", metavar="NAME", help="Name of the job.")
@click.option("--project", metavar="NAME", help="Project of the job.")
@click.option("-d", "--directory", metavar="DIR", help="Working directory; the current one by default.")
@click.option("-O", "--stdout", metavar="FILE", help="File for the output; %jobid%, %jobname%, %attempt% are replaced.")
@click.option("-E", "--stderr", metavar="FILE", help="File for the errors, likewise.")
@click.option(
    "-a",
    "--anterior",
    "--after",
    multiple=True,
    metavar="[KIND:]ID[,MIN[,MAX]]",
    help="Wait for job ID; KIND is after, afterok, afternotok or afterany (the default).",
)
@click.option(
    "-r",
    "--reservation",
    metavar='"START[, END]"',
    help="Start exactly then: now, YYYY-MM-DD HH:MM:SS, 'tomorrow 8:00', …; END stands for a walltime.",
)
@click.option("--array", type=int, metavar="N", help="N jobs that differ by OAR_ARRAY_INDEX.")
@click.option("--array-param-file", metavar="FILE", help="One job for each line, which is appended to the command.")
@click.option("--hold", is_flag=True, help="Submit in state Hold; oarresume releases it.")
@click.option("--notify", metavar="NOTIFICATION", help="[TAG,...]mail:ADDRESS or [TAG,...]exec:/PATH WORDS.")
@click.option("--checkpoint", metavar="SECONDS", help="Send the signal so long before the walltime ends; or 5m, 1h.")
@click.option("--signal", metavar="SIGNAL", help="The signal of --checkpoint, by number or name; SIGUSR2 by default.")
@click.option("-I", "--interactive", is_flag=True, help="A shell on the first node, here; COMMAND in its place.")
@click.option(
    "-C",
    "--connect",
    "connect_to",
    is_flag=False,
    flag_value=0,
    type=int,
    metavar="[ID]",
    help="A shell in the running job ID, or its terminal; without it, in your only one.",
)
@click.option("--keep", is_flag=True, help="With -I or -C: from then on the job outlives the link to its terminal.")
@click.option("-S", "--scanscript", is_flag=True, help="COMMAND is a script with lines of options: #OAR -l core=2")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Do nothing; say when and where the job would start, or which jobs would be touched.",
)
@click.option("--wait", is_flag=True, help="Wait for the end of the job, and exit with its status.")
@click.option("--follow", is_flag=True, help="The same, and show what the job writes.")
@with_formats
@click.option(
    "--edit",
    multiple=True,
    metavar="ID",
    help="Change job ID, or the waiting ones of a range such as 12-20, as the other options say.",
)
@click.option("--edit-array", multiple=True, metavar="ID", help="The same for all jobs of an array that wait.")
@click.option(
    "--resubmit", multiple=True, metavar="ID", help="Submit job ID, which is over, or those of a range, once more."
)
@click.option(
    "--only",
    type=click.Choice(["failed", "all"]),
    help="With --resubmit of an array's ID: its jobs that failed, or all that are over.",
)
@click.option("-k", "--use-job-key", is_flag=True, help="Let oarsh come to the job, on one host too.")
@click.option(
    "-i",
    "--import-job-key-from-file",
    "import_job_key",
    metavar="FILE",
    help="Likewise, and let whoever has this private key come.",
)
@click.option(
    *_INLINE,
    "import_job_key_inline",
    metavar="KEY",
    help="The same; others see the command line.",
)
@click.option(
    "-e",
    "--export-job-key-to-file",
    "export_job_key",
    metavar="FILE",
    help="Likewise with a new key, which is written there; %jobid% is replaced.",
)
@click.option("-v", "--verbose", count=True, help="Say how the request was understood.")
@click.option("--key", metavar="KEY", help="Ask again what became of the request with this key.")
@click.argument("command", nargs=-1)
@with_version
@click.pass_context
def oarsub(ctx: click.Context, /, **options: Any) -> int:
    """Submit COMMAND, a line for the shell, as a job.

    \b
    Examples:
        oarsub -l /host=2/core=4,walltime=1:30 ./simulate
        oarsub --array 100 -t besteffort 'echo $OAR_ARRAY_INDEX'
        oarsub -S ./script.sh
        oarsub --follow -l /core=2,walltime=0:10 make
        oarsub -I -l /core=2,walltime=0:30
        oarsub -C 4242
        oarsub -r "2030-05-04 09:00:00" -l /host=2,walltime=3 ./course
        oarsub --edit 4242 -l walltime=2h30
        oarsub --edit-array 4242 -q night --dry-run
        oarsub --resubmit 4242 --only failed

    A walltime is hours[:minutes[:seconds]], or such as 90m, 2h30, 1d.  An advance
    reservation (-r) is accepted or refused within seconds, which oarsub waits for.

    --edit changes what is named besides and keeps the rest, the job's id and its age;
    the rules of admission judge it again.  An empty value takes away what was asked for
    (-p '').  --resubmit takes the same changes.

    With --key and no COMMAND it only asks what an earlier request came to.

    With --wait the status is that of the job, 128+N when it died of signal N; 124: its walltime had passed;
    123: it was killed; 125: it could not run, or to its end. Of an array it is the worst. ^C leaves the jobs alone.
    """
    key = _key(options["key"])
    if options["connect_to"] is not None:
        return _reconnect(ctx, options)
    if options["edit"] or options["edit_array"] or options["resubmit"] or options["only"]:
        from oarpy.commands import editing

        return editing.run(ctx, options, key, read=_submission, finish=_print_and_finish)
    if key and not options["command"]:
        document = _earlier(key)
        if "job_ids" not in document:
            from oarpy.commands import editing

            return editing.told(document, options)
        return _print_and_finish(Submitted.from_json(document), options)
    submission = _submission(ctx, options)
    _check_follow(submission, options)
    if submission.reservation is not None:
        key = key or _new_key()
    answer = _submitted(ctx, submission, key)
    with _deleted_if_interrupted(answer, options) as let_go:
        if options["interactive"] or submission.reservation is not None:
            interrupts.release()
        if options["verbose"] or sys.stderr.isatty() or _is_not_oars(options):
            from oarpy.commands.understood import understood

            for line in understood(submission):
                tell(line)
        if submission.reservation is not None and key is not None and answer.job_ids:
            _print_and_wait(answer, options, key)
        else:
            _print(answer, options)
        return _waited(answer, options, let_go)


def _key(text: str | None) -> str | None:
    if text is None:
        return None
    from oarpy.client.asking import check_key

    return check_key(text)


def _new_key() -> str:
    from oarpy.client.asking import new_key

    return new_key()


def _reconnect(ctx: click.Context, options: Mapping[str, Any]) -> int:
    from oarpy.commands.interactive import reconnect

    if any(is_said(ctx, name) for name in options if name not in ("connect_to", "keep", "verbose")):
        raise RequestRefused("-C comes to a job that runs; only --keep goes with it, and no command")
    # The id may stand alone, as OAR has it: oarsub -C 42.
    return reconnect(options["connect_to"] or None, keep=options["keep"])


def _earlier(key: str) -> Mapping[str, Any]:
    from oarpy.client.asking import earlier_answer, granted

    return granted(earlier_answer(connect(), key))


def _submission(ctx: click.Context, options: Mapping[str, Any]) -> Submission:
    command, properties = " ".join(options["command"]), options["property"][-1:]
    initial_request = _as_typed(["oarsub", *sys.argv[1:]])
    if options["scanscript"]:
        from oarpy.commands.job_scripts import scanned

        script = scanned(ctx, options)
        command, options, properties = script.command, script.options, (*properties, *script.properties)
        initial_request += "\n#OAR " + _as_typed(script.arguments) if script.arguments else ""
    needs_none = options["interactive"] or options["reservation"] is not None or may_lack_command(options["type"])
    if not command.strip() and not needs_none:
        sentence = "no command was given; give one, or a script (-S), or -I for a shell"
        raise RequestRefused(sentence, exit_status=ExitStatus.NOTHING_TO_DO)
    if options["array"] is not None and options["array"] < 1:
        raise SyntaxRefused("an array has at least one job", exit_status=ExitStatus.ARRAY_OR_ALREADY)
    return submission_of(
        command,
        options["directory"],
        resources=options["resource"],
        properties=properties,
        types=options["type"],
        after=options["anterior"],
        queue=options["queue"],
        # Empty is not said, as for OAR: a script may name a variable that is not set.
        name=options["name"] or None,
        project=options["project"] or None,
        stdout=options["stdout"] or None,
        stderr=options["stderr"] or None,
        checkpoint_s=_seconds(options["checkpoint"]),
        signal=_signal(options["signal"]),
        hold=options["hold"],
        array_count=options["array"],
        parameters=_parameters(options["array_param_file"]),
        initial_request=initial_request,
        dry_run=options["dry_run"],
        interactive=options["interactive"],
        **_reserved(options["reservation"]),
        **_notified(options["notify"]),
        **_keyed(ctx, options),
    )


def _is_inline(option: str) -> bool:
    """Whether it is followed by a private key, cut short as it may be."""
    return option.startswith("--import-job-key-i") and "=" not in option


def _as_typed(words: Sequence[str]) -> str:
    """A command line as it is kept: without private keys, which are nobody else's to read."""
    kept: list[str] = []
    for word in words:
        option, equals, _ = word.partition("=")
        if kept and _is_inline(kept[-1]):
            word = "KEY"
        elif equals and _is_inline(option):
            word = f"{option}=KEY"
        kept.append(word)
    return shlex.join(kept)


def _keyed(ctx: click.Context, options: Mapping[str, Any]) -> dict[str, Any]:
    """The public key that the job is to have; ``ctx`` keeps what is to be done with the private one."""
    names = ("use_job_key", "import_job_key", "import_job_key_inline", "export_job_key")
    if not any(options[name] for name in names):
        return {}
    from oarpy.commands.job_keys import wanted

    ctx.meta[_JOB_KEY] = key = wanted(options)
    return {"job_key": key.public}


def _reserved(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    from datetime import datetime

    from oarpy.model.reservation_dates import parse_reservation

    return {"reservation": parse_reservation(text, datetime.now().astimezone())}


def _seconds(text: str | None) -> int | None:
    if text is None:
        return None
    from oarpy.model.durations import parse_seconds

    try:
        return parse_seconds(text)
    except SyntaxRefused as refusal:
        status = ExitStatus.SYNTAX if text.isdigit() else ExitStatus.REFUSED
        raise SyntaxRefused(f"--checkpoint: {refusal}", exit_status=status) from None


def _notified(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    from oarpy.model.notifications import parse_notification

    return {"notify": parse_notification(text)}


def _parameters(path: str | None) -> tuple[str, ...]:
    if path is None:
        return ()
    from oarpy.commands.files import text_of
    from oarpy.model.array_parameters import parse_array_parameters

    return parse_array_parameters(text_of(path, "file of array parameters", ExitStatus.PARAMETERS_OR_NOT_RUNNING))


def _signal(text: str | None) -> int | None:
    if text is None:
        return None
    from oarpy.commands.signals import parse_signal

    return parse_signal(text)


def _check_follow(submission: Submission, options: Mapping[str, Any]) -> None:
    if options["interactive"] and (options["wait"] or options["follow"]):
        raise RequestRefused("--wait and --follow do not go with -I, which ends with the shell")
    if options["follow"] and (submission.array_count is not None or submission.parameters):
        raise RequestRefused("--follow shows one job, not an array; oarstat --follow -j ID shows one of its jobs")


def _is_not_oars(options: Mapping[str, Any]) -> bool:
    """Whether a duration or a date is written in a way of which one should see how it was understood."""
    durations = [text.rpartition("walltime=")[2] for text in options["resource"] if "walltime=" in text]
    dates = (options["reservation"] or "now").replace("UTC", "").split(",")
    return any(not each.replace(":", "").strip().isdigit() for each in durations) or any(
        each.strip() != "now" and (each.count("-") != 2 or not _DATE.issuperset(each)) for each in dates
    )


def _submitted(ctx: click.Context, submission: Submission, key: str | None) -> Submitted:
    def submit() -> Submitted:
        return client(creates=True).send(submission, key)

    if (job_key := ctx.meta.get(_JOB_KEY)) is None:
        return submit()
    from oarpy.commands.job_keys import submitted_with

    return submitted_with(job_key, submit, tell)


def _print_and_wait(answer: Submitted, options: dict[str, Any], key: str) -> None:
    """Tell what OAR tells of a reservation; a refusal is raised."""
    from oarpy.client.reservations import Validation

    job_id = answer.job_ids[0]
    _print(answer, options)
    click.echo("# Reservation mode: waiting for validation...")
    sys.stdout.flush()
    verdict = Validation(connect, job_id, key, tell).verdict()
    if not verdict.accepted:
        click.echo("# Reservation not valid --> KO")
        raise RequestRefused(f"job {job_id}: {verdict.message}", exit_status=ExitStatus.RESERVATION_OR_NOT_FINISHING)
    click.echo("# Reservation valid --> OK")


def _deleted_if_interrupted(
    answer: Submitted, options: Mapping[str, Any]
) -> AbstractContextManager[Callable[[], None]]:
    """One context for all that is done until ^C means something else: it may come between any two steps."""
    if not answer.job_ids or not (options["interactive"] or options["reservation"] is not None):
        return nullcontext(lambda: None)
    from oarpy.client.abandoning import DeletedIfInterrupted

    return DeletedIfInterrupted(client(), answer.job_ids[0])


def _print_and_finish(answer: Submitted, options: Mapping[str, Any]) -> int:
    _print(answer, options)
    with _deleted_if_interrupted(answer, options) as let_go:
        return _waited(answer, options, let_go)


def _print(answer: Submitted, options: Mapping[str, Any]) -> None:
    for warning in answer.warnings:
        tell(warning)
    if options["dry_run"]:
        from oarpy.commands.estimates import print_estimates

        print_estimates(answer.estimates, options["style"])
        return
    lines = [f"OAR_JOB_ID={job_id}" for job_id in answer.job_ids]
    if answer.array_id is not None:
        lines.append(f"OAR_ARRAY_ID={answer.array_id}")
    if options["style"] == "json":
        # A text, because programs put it among their arguments as it is.
        lines += [f'{{\n   "job_id" : "{job_id}"\n}}' for job_id in answer.job_ids]
    click.echo("\n".join(lines))
    if options["style"] not in (None, "json"):
        from oarpy.commands import formats

        for job_id in answer.job_ids:
            formats.write({"job_id": str(job_id)}, options["style"])


def _waited(answer: Submitted, options: Mapping[str, Any], let_go: Callable[[], None]) -> int:
    """With ``--wait``, the status of the jobs when they are over; with ``-I`` that of the terminal."""
    if options["interactive"] and answer.job_ids:
        interrupts.release()
        from oarpy.commands.interactive import open_shell

        open_shell(answer.job_ids[0], keep=options["keep"], begun=let_go)
        return 0
    let_go()
    if not (options["wait"] or options["follow"]) or not answer.job_ids:
        return 0
    from oarpy.commands.waiting import wait_for

    # Whoever reads the ids does not have to wait as well.
    sys.stdout.flush()
    interrupts.release()
    # Jobs that are submitted again belong to an array in which others have ended long ago.
    array_id = answer.array_id if answer.array_id == answer.job_ids[0] else None
    follow = options["follow"] and len(answer.job_ids) == 1
    if options["follow"] and not follow:
        tell("--follow shows one job; these are only waited for")
    return wait_for(answer.job_ids, array_id=array_id, follow=follow)


def main() -> None:
    run(oarsub)
