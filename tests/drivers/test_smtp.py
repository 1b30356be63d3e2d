"""Mail goes through a real SMTP server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from aiosmtpd.smtp import AuthResult

from oarpy.drivers.smtp import SmtpMessenger
from oarpy.ports.messenger import Delivery, Fate, Message
from oarpy.settings import Mail
from tests.support.mail import Mailbox, free_port, silent_server, smtp_server


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with smtp_server() as mailbox:
        yield mailbox


def messenger(port: int, **values: object) -> SmtpMessenger:
    defaults = {"host": "127.0.0.1", "port": port, "sender": "oar@c0.example.org", "timeout": timedelta(seconds=60)}
    return SmtpMessenger(Mail(**{**defaults, **values}), "c0")


def message(number: int = 7, target: str = "alice@example.org", **values: object) -> Message:
    defaults = {
        "login": "alice",
        "tag": "END",
        "comment": "R=1,W=1:0:0",
        "job_id": 42,
        "job_name": "sim",
        "facts": (("job", "42 (sim)"), ("state", "Terminated")),
    }
    return Message(number, target, **{**defaults, **values})


def fates(deliveries: list[Delivery]) -> list[Fate]:
    return [delivery.fate for delivery in deliveries]


def test_a_mail_says_which_job_and_what_happened(mailbox):
    deliveries = messenger(mailbox.port).deliver([message()])

    (mail,) = mailbox.mails
    assert fates(deliveries) == [Fate.DELIVERED]
    assert mail["Subject"] == "*OAR* [END]: 42 (sim) on c0"
    assert mail["To"] == "alice@example.org"
    assert mail["From"] == "oar@c0.example.org"
    assert mail["Message-ID"] == "<oar.7.42@c0.example.org>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_payload().replace("\r", "") == "R=1,W=1:0:0\n\n  job: 42 (sim)\nstate: Terminated\n"


def test_a_job_without_a_name_has_no_brackets(mailbox):
    messenger(mailbox.port).deliver([message(job_name="")])

    assert mailbox.mails[0]["Subject"] == "*OAR* [END]: 42 on c0"


def test_a_name_cannot_add_a_header(mailbox):
    messenger(mailbox.port).deliver([message(job_name="x\r\nBcc: mallory@example.org")])

    assert mailbox.mails[0]["Bcc"] is None
    assert mailbox.mails[0]["Subject"] == "*OAR* [END]: 42 (x Bcc: mallory@example.org) on c0"


def test_names_and_comments_may_be_of_any_script(mailbox):
    messenger(mailbox.port).deliver([message(job_name="Größe", comment="已完成")])

    assert mailbox.mails[0].get_payload(decode=True).decode().startswith("已完成")


def test_a_batch_shares_one_connection(mailbox):
    deliveries = messenger(mailbox.port).deliver([message(number) for number in range(5)])

    assert fates(deliveries) == [Fate.DELIVERED] * 5
    assert len(mailbox.mails) == 5
    assert mailbox.connections == 1


def test_a_refused_recipient_is_final_and_the_others_get_their_mail(mailbox):
    mailbox.refusals["nobody@example.org"] = "550 no such user"

    deliveries = messenger(mailbox.port).deliver([message(1, "nobody@example.org"), message(2)])

    assert fates(deliveries) == [Fate.REFUSED, Fate.DELIVERED]
    assert deliveries[0].detail == "the mail server said 550 no such user"


def test_a_temporary_refusal_may_be_tried_again(mailbox):
    mailbox.refusals["alice@example.org"] = "451 greylisted"

    assert fates(messenger(mailbox.port).deliver([message()])) == [Fate.FAILED]


def test_without_a_server_every_mail_of_the_batch_has_failed():
    deliveries = messenger(free_port()).deliver([message(1), message(2)])

    assert fates(deliveries) == [Fate.FAILED, Fate.FAILED]
    assert "no mail server" in deliveries[0].detail


@pytest.mark.parametrize("dripping", [b"", b"220-"])
def test_a_server_that_does_not_come_to_the_point_costs_one_time_out(dripping):
    with silent_server(dripping) as server:
        deliveries = messenger(server.port, timeout=timedelta(seconds=0.5)).deliver([message(1), message(2)])

    assert server.connections == 1
    assert fates(deliveries) == [Fate.FAILED, Fate.FAILED]


def test_no_server_is_set_and_nothing_is_sent():
    assert fates(messenger(25, host=None).deliver([message()])) == [Fate.REFUSED]


def test_a_server_that_wants_a_password_gets_it(tmp_path: Path):
    secret = tmp_path / "password"
    secret.write_text("tr0ub4dor\n")
    secret.chmod(0o600)

    def check(server: object, session: object, envelope: object, mechanism: str, data: object) -> AuthResult:
        return AuthResult(success=(data.login, data.password) == (b"oar", b"tr0ub4dor"))

    with smtp_server(authenticator=check, auth_required=True, auth_require_tls=False) as mailbox:
        accepted = messenger(mailbox.port, username="oar", password_file=str(secret)).deliver([message()])
        refused = messenger(mailbox.port).deliver([message()])

    assert fates(accepted) == [Fate.DELIVERED]
    assert fates(refused) == [Fate.REFUSED]


def test_a_password_that_others_can_read_is_not_used(tmp_path: Path, mailbox):
    secret = tmp_path / "password"
    secret.write_text("tr0ub4dor\n")
    os.chmod(secret, 0o644)

    (delivery,) = messenger(mailbox.port, username="oar", password_file=str(secret)).deliver([message()])

    assert delivery.fate is Fate.FAILED
    assert "can be read by others" in delivery.detail


def test_encryption_is_insisted_on(mailbox):
    (delivery,) = messenger(mailbox.port, starttls=True).deliver([message()])

    assert delivery.fate is Fate.FAILED
    assert mailbox.mails == []
