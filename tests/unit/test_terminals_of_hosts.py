"""Whether a user's sshd can take a terminal on a host."""

import pytest

from oarpy.node.oarexec.access import gives_terminals, sshd_config

PROC = "proc /proc proc rw,nosuid 0 0\n"


@pytest.mark.parametrize(
    ("mounts", "given"),
    [
        (PROC + "devpts /dev/pts devpts rw,nosuid,noexec,gid=5,mode=620,ptmxmode=000 0 0\n", True),
        (PROC + "devpts /dev/pts devpts rw,mode=600,ptmxmode=000 0 0\n", False),
        ("devpts /dev/pts devpts rw,gid=50,mode=620 0 0\n", False),
        ("devpts /dev/pts devpts rw,mode=600 0 0\ndevpts /dev/pts devpts rw,gid=5,mode=620 0 0\n", True),
        ("devpts /srv/root/dev/pts devpts rw,mode=600 0 0\n", True),
        (PROC, True),
        ("\n", True),
    ],
)
def test_terminals_are_given_where_new_ones_belong_to_the_group_tty(mounts: str, given: bool) -> None:
    assert gives_terminals(mounts, 5) is given


@pytest.mark.parametrize(("terminals", "line"), [(True, "PermitTTY yes"), (False, "PermitTTY no")])
def test_an_sshd_that_would_die_of_a_terminal_refuses_it(terminals: bool, line: str) -> None:
    assert line in sshd_config("/spool/", {}, terminals).splitlines()
