from __future__ import annotations

import ast
import re
import tomllib
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import get_type_hints

import pytest

import oarpy
from oarpy import settings
from oarpy.errors import ConfigurationError
from oarpy.instance import shared

DOCUMENTED = Path(shared("conf", "oarpy.toml")).read_text(encoding="utf-8")


def test_the_documented_values_are_the_defaults():
    assert settings.parse(tomllib.loads(DOCUMENTED)) == settings.Settings()


def test_every_setting_is_documented():
    known = {
        f"{section}.{key}"
        for section, kind in get_type_hints(settings.Settings).items()
        for key in get_type_hints(kind)
    }

    # A setting without a default stands there commented out, with an example that must be valid too.
    everything = tomllib.loads(re.sub(r"(?m)^#(?=\w+ = )", "", DOCUMENTED))
    settings.parse(everything)

    assert {f"{section}.{key}" for section, values in everything.items() for key in values} == known


def test_every_setting_is_read_by_something():
    code = [ast.parse(path.read_text()) for path in Path(oarpy.__file__).parent.rglob("*.py")]
    known = {key for kind in get_type_hints(settings.Settings).values() for key in get_type_hints(kind)}

    read = {node.attr for tree in code for node in ast.walk(tree) if isinstance(node, ast.Attribute)}

    # Every command looks for the database before anything else, and without parsing all the rest.
    assert known - read == {"url"}


def test_every_setting_has_its_reason_above_it():
    lines = DOCUMENTED.splitlines()
    bare = [
        line
        for above, line in pairwise(lines)
        if re.match(r"#?\w+ = ", line) and not (above.startswith("#") or re.match(r"\w+ = ", above))
    ]

    assert bare == []


def test_without_a_file_everything_has_its_default(tmp_path):
    assert settings.load(str(tmp_path / "oarpy.toml")) == settings.Settings()


def test_a_file_changes_what_it_names(tmp_path):
    path = tmp_path / "oarpy.toml"
    path.write_text('[kill]\nsoft = "1.5 min"\n[jobs]\nmax_array = 7\n')

    loaded = settings.load(str(path))

    assert loaded.kill == settings.Kill(soft=timedelta(seconds=90))
    assert loaded.jobs.max_array == 7


def test_names_with_numbers_are_read(tmp_path):
    path = tmp_path / "oarpy.toml"
    path.write_text("[fairshare]\ncoefficient_user = 3\nuser_targets = { alice = 30, default = 2.5 }\n")

    loaded = settings.load(str(path))

    assert loaded.fairshare.coefficient_user == 3.0
    assert loaded.fairshare.user_targets == {"alice": 30.0, "default": 2.5}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[kil]", "kil is not a section; did you mean kill?"),
        ("[kill]\nsofd = 1", "sofd is not a setting in [kill]; did you mean soft?"),
        ("[log]\nxyz = 1", "xyz is not a setting in [log]; known are: level"),
        ("kill = 3", "kill is a section; write [kill] above its settings"),
        ("[kill]\nsoft = 20", 'kill.soft must be a duration such as "20 s", "5 min", "2 h" or "7 d", not 20'),
        ('[kill]\nsoft = "-1 s"', 'kill.soft must be a duration such as "20 s", "5 min", "2 h" or "7 d", not \'-1 s\''),
        (
            "[walltime_change]\nqueues = { a = 1 }",
            'walltime_change.queues must be names with settings, such as { night = { max_increase = "2 h" } }, '
            "not {'a': 1}",
        ),
        (
            "[walltime_change]\nqueues = { a = { increment = 1 } }",
            'walltime_change.queues.a.increment must be a duration such as "20 s", "5 min", "2 h" or "7 d", not 1',
        ),
        (
            "[walltime_change]\nqueues = { a = { increments = 1 } }",
            "increments is not a setting in [walltime_change.queues.a]; did you mean increment?",
        ),
        ("[jobs]\nmax_array = true", "jobs.max_array must be a whole number, 0 or more, not True"),
        ("[jobs]\nmax_array = -1", "jobs.max_array must be a whole number, 0 or more, not -1"),
        ("[mail]\nhost = 1", "mail.host must be text in quotes, not 1"),
        ('[mail]\nstarttls = "no"', "mail.starttls must be true or false, not 'no'"),
        ('[log]\nlevel = "loud"', "log.level must be one of debug, info, warning, error, not 'loud'"),
        ("[fairshare]\ncoefficient_user = true", "fairshare.coefficient_user must be a number, not True"),
        ("[fairshare]\ncoefficient_user = inf", "fairshare.coefficient_user must be a number, not inf"),
        (
            "[fairshare]\nuser_targets = 30",
            "fairshare.user_targets must be names with numbers, such as { alice = 30 }, not 30",
        ),
        (
            '[fairshare.user_targets]\nalice = "30 %"',
            "fairshare.user_targets.alice must be a number, not '30 %'",
        ),
        (
            '[multifactor]\nsize_favours = "wide"',
            "multifactor.size_favours must be one of small, large, not 'wide'",
        ),
        (
            "[scheduler]\njobs_per_user = 0",
            "scheduler.jobs_per_user must be 1 or more; without it, all are looked at",
        ),
        *(
            (
                f'[nodes]\noarsh_ports = "{text}"',
                f"nodes.oarsh_ports is '{text}', which is no range of ports from 1024 on, as 40000-40015",
            )
            for text in (
                "",
                "any",
                "-",
                "40000-",
                "40015-40000",
                "22-40000",
                "40000-65536",
                "40000-40001-40002",
                "٤٠٠٠٠",
            )
        ),
        ("[nodes]\nssh = 'ssh -o \"unbalanced'", "nodes.ssh cannot be split into words: no closing quotation"),
        ('[accounting]\nwindow = "1 s"', "accounting.window must be a minute or more"),
        ('[quotas]\nhorizon = "1 h"', "quotas.horizon must be a day or more, and ten years at most"),
        ('[quotas]\nhorizon = "99999 d"', "quotas.horizon must be a day or more, and ten years at most"),
        (
            '[quotas]\ntimezone = "../../etc/passwd"',
            "quotas.timezone must be a time zone such as Europe/Paris, not '../../etc/passwd'",
        ),
        (
            '[quotas]\ntimezone = "Europe/Atlantis"',
            "quotas.timezone must be a time zone such as Europe/Paris, not 'Europe/Atlantis'",
        ),
        ("[kill", "Expected ']' at the end of a table declaration (at end of document)"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path, text, sentence):
    path = tmp_path / "oarpy.toml"
    path.write_text(text)

    with pytest.raises(ConfigurationError) as refusal:
        settings.load(str(path))

    assert str(refusal.value) == f"{path}: {sentence}"


def test_rules_of_walltime_changes_may_differ_by_queue():
    text = (
        '[walltime_change]\nincrement = "1 h"\nqueues = { night = { max_increase = "2 h" }, day = { enabled = false } }'
    )

    rules = settings.parse(tomllib.loads(text)).walltime_change

    assert (rules.of("night").max_increase, rules.of("night").increment) == (timedelta(hours=2), timedelta(hours=1))
    assert not rules.of("day").enabled
    assert rules.of("default") is rules


def test_an_ssh_of_the_sites_own_notices_hosts_that_are_cut_off_as_it_says_or_by_default() -> None:
    assert settings.Nodes(ssh="ssh -F box").ssh_words[:3] == ("ssh", "-F", "box")
    ours = settings.Nodes(ssh="/opt/bin/ssh -o ServerAliveInterval=1 -F box").ssh_words
    assert next(word for word in ours if word.startswith("ServerAliveInterval")) == "ServerAliveInterval=1"
    assert "ServerAliveInterval=10" in settings.Nodes().ssh_words
    assert settings.Nodes(ssh="reach --quickly").ssh_words == ("reach", "--quickly")
    assert settings.Nodes(ssh=" ").ssh_words == ()
