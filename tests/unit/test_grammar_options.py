"""The small grammars: durations, notifications, dependencies, types, scripts, parameters."""

import pytest

from oarpy.errors import SyntaxRefused
from oarpy.model.array_parameters import parse_array_parameters
from oarpy.model.dependencies import Dependency, parse_dependency
from oarpy.model.durations import parse_duration, parse_seconds, render_duration, render_elapsed
from oarpy.model.job_message import job_message
from oarpy.model.job_types import check_job_type, has_type
from oarpy.model.notifications import Notification, parse_notification
from oarpy.model.output_names import default_output
from oarpy.model.scripts import script_arguments
from oarpy.model.states import DependencyKind


@pytest.mark.parametrize(
    ("text", "seconds"), [("2", 7200), ("0:30", 1800), ("0:0:1", 1), ("01:02:03", 3723), ("0:90:90", 5490)]
)
def test_a_duration_is_hours_minutes_seconds(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "1:",
        "a",
        "h",
        "1h1h",
        "1m1h",
        "1x",
        "1d:2",
        "5 30",
        "1s5",
        "1h ",
        "-1",
        "1.5",
        "0",
        "0:0:0",
        "1:2:3:4",
        "²",
        "9" * 40,
        "1 ",
    ],
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(SyntaxRefused):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90m", 5400),
        ("2h30", 9000),
        ("2h30m10", 9010),
        ("1d", 86_400),
        ("1d12h", 129_600),
        ("1D 12H", 129_600),
        ("1 week 2 days", 777_600),
        ("45 min", 2700),
        ("10s", 10),
    ],
)
def test_a_duration_may_have_units(text, seconds):
    assert parse_duration(text) == seconds


def test_where_a_number_means_seconds_units_are_understood_as_well():
    assert [parse_seconds(text) for text in ("300", "5m", "0:5")] == [300] * 3
    assert parse_dependency("afterok:7,10m,1:0") == Dependency(7, DependencyKind.AFTEROK, (600, 3600))
    assert parse_dependency("7,-90,0") == Dependency(7, DependencyKind.AFTERANY, (-90, 0))


def test_durations_are_shown_as_oar_shows_them():
    assert render_duration(300) == "0:5:0"
    assert render_duration(100 * 3600 + 61) == "100:1:1"
    assert render_elapsed(727) == "0:12:07"


@pytest.mark.parametrize(
    ("text", "notification"),
    [
        ("mail:alice@example.org", Notification("mail", "alice@example.org")),
        ("mail:alice", Notification("mail", "alice")),
        ("[END,ERROR]mail:a+b@c.d", Notification("mail", "a+b@c.d", ("END", "ERROR"))),
        ("[running] exec:/bin/notify x y", Notification("exec", "/bin/notify x y", ("RUNNING",))),
    ],
)
def test_a_notification_names_tags_method_and_target(text, notification):
    assert parse_notification(text) == notification


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alice@example.org",
        "fax:123",
        "mail:",
        "mail:-oQ/tmp@x",
        "mail:a@",
        "mail:a,b@c",
        "mail:a b",
        "mail:a\nBcc: b@c",
        "exec:notify",
        "exec:",
        "exec:/bin/x; rm -rf /",
        "exec:/bin/x $(id)",
        "exec:/bin/x `id`",
        "exec:/bin/x > /tmp/y",
        "exec:/bin/x | y",
        "exec:/bin/x 'y'",
        "exec:/bin/x\ty",
        "[END mail:a",
        "[]mail:a",
        "[NEVER]mail:a",
        "mail:" + "a" * 2000,
    ],
)
def test_an_unsafe_notification_is_refused_with_status_16(text):
    with pytest.raises(SyntaxRefused) as refusal:
        parse_notification(text)

    assert refusal.value.exit_status == 16


@pytest.mark.parametrize(
    ("text", "dependency"),
    [
        ("12", Dependency(12)),
        ("after:12", Dependency(12, DependencyKind.AFTER)),
        ("AFTEROK:12", Dependency(12, DependencyKind.AFTEROK)),
        ("afternotok:12,60", Dependency(12, DependencyKind.AFTERNOTOK, (60, None))),
        ("12,-60,3600", Dependency(12, DependencyKind.AFTERANY, (-60, 3600))),
        ("12,,3600", Dependency(12, DependencyKind.AFTERANY, (None, 3600))),
    ],
)
def test_a_dependency_names_kind_job_and_window(text, dependency):
    assert parse_dependency(text) == dependency


@pytest.mark.parametrize(
    "text",
    ["", "x", "0", "-1", "1.5", "before:1", ":1", "1,2,3,4", "1,b", "1,60,30", "1,9999999999", "9" * 30, "1;2", "²"],
)
def test_what_is_no_dependency_is_refused(text):
    with pytest.raises(SyntaxRefused):
        parse_dependency(text)


@pytest.mark.parametrize(
    "text", ["besteffort", "origin=execo", "token:fluent=4", "timesharing=user,*", "monitor=", "allow_classic_ssh"]
)
def test_any_name_or_name_with_value_is_a_type(text):
    assert check_job_type(text) == text


@pytest.mark.parametrize("text", ["", "=x", "a b", "1x", "x\ny", "é=1", "x" * 256])
def test_what_is_no_type_is_refused(text):
    with pytest.raises(SyntaxRefused):
        check_job_type(text)


def test_a_type_is_found_with_its_value_or_without():
    assert has_type(["container=c", "x"], "container")
    assert has_type(["besteffort"], "besteffort")
    assert not has_type(["besteffort2"], "besteffort")


def test_outputs_are_named_for_the_job():
    assert default_output("a/b", "stdout") == "OAR.%jobname%.%jobid%.stdout"
    assert default_output(None, "stderr") == "OAR.%jobid%.stderr"


def test_a_message_names_only_what_is_unusual():
    usual = job_message(resources=1, walltime_s=600, queue="default", project="default")
    unusual = job_message(
        resources=8, walltime_s=5400, name="n", queue="big", project="p", types=["a", "b=1"], notes="Karma=0.1"
    )

    assert usual == "R=1,W=0:10:0,J=B"
    assert unusual == "R=8,W=1:30:0,J=B,N=n,Q=big,P=p,T=a|b=1 (Karma=0.1)"


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("#OAR -n name", ("-n", "name")),
        ('#OAR -n "two words"', ("-n", "two words")),
        ("#OAR --project 'a b' --hold", ("--project", "a b", "--hold")),
        (r'#OAR -d "/a\ b"', ("-d", "/a b")),
        (r"#OAR -d /a\ b", ("-d", "/a b")),
        ("#OAR\t-l nodes=1,walltime=2", ("-l", "nodes=1,walltime=2")),
        (
            "#OAR -l {cluster='x' and mem > 3}/nodes=1/core=12",
            ("-l", "{cluster='x' and mem > 3}/nodes=1/core=12"),
        ),
        ("#OAR -l \"{cluster='x'}/nodes=1\"", ("-l", "{cluster='x'}/nodes=1")),
        ("#OAR -p cluster='x'", ("-p", "cluster='x'")),
        ("#OAR -p cluster='x' AND mem > -5", ("-p", "cluster='x' AND mem > -5")),
        ("#OAR -p 'OLD AND memcore>=1234'", ("-p", "OLD AND memcore>=1234")),
        ("#OAR -p cluster='x' -n name", ("-p", "cluster='x'", "-n", "name")),
        ("#OAR --property=cluster='x'", ("--property=cluster='x'",)),
        ("#OAR --property='a = 1'", ("--property=a = 1",)),
        ("#OAR -O out.%jobid%", ("-O", "out.%jobid%")),
        ("#OAR -n ''", ("-n", "")),
        ("#OARX -n name", ()),
        ("# OAR -n name", ()),
        ("#OAR", ()),
        ("echo '#OAR -n x'", ()),
    ],
)
def test_the_options_in_a_script_are_split_like_a_shell_splits_them(line, arguments):
    assert script_arguments(f"#!/bin/sh\n{line}\necho\n") == arguments


def test_a_path_that_nextflow_quotes_and_escapes_is_the_path():
    path = '/data/it\'s (new) & "old"!/a:b|<c>`d\\e'
    escaped = "".join(f"\\{each}" if each in "'\" ()\\!&|<>`:" else each for each in path)

    assert script_arguments(f'#!/bin/sh\n#OAR -d "{escaped}"\n') == ("-d", path)


def test_the_options_of_several_lines_come_in_order():
    script = "#!/bin/sh\n#OAR -n a\n# comment\n\n#OAR -t b\necho\n#OAR -t c\n"

    assert script_arguments(script) == ("-n", "a", "-t", "b", "-t", "c")


@pytest.mark.parametrize(
    "script", ["", "echo\n", "\x7fELF", "#!/bin/sh\n#OAR -n 'x\n", '#!/bin/sh\n#OAR -n "x\n', "#!/bin/sh\n#OAR -l {x\n"]
)
def test_a_script_that_cannot_be_read_is_refused_with_status_12(script):
    with pytest.raises(SyntaxRefused) as refusal:
        script_arguments(script)

    assert refusal.value.exit_status == 12


def test_parameters_are_the_lines_that_say_something():
    assert parse_array_parameters("# head\n\n a 1 \n  \nb '2 3'\n#x\nc") == ("a 1", "b '2 3'", "c")


@pytest.mark.parametrize("text", ["", "\n\n", "# only\n", "a\0b"])
def test_a_file_without_parameters_is_refused_with_status_9(text):
    with pytest.raises(SyntaxRefused) as refusal:
        parse_array_parameters(text)

    assert refusal.value.exit_status == 9
