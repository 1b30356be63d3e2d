"""Users are told by a running instance."""

from __future__ import annotations

from tests.support import invariants
from tests.support.instance import SETTINGS, running_system
from tests.support.mail import smtp_server
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until


def test_a_user_gets_a_mail_and_a_program_hears_of_each_step(database: TestDatabase) -> None:
    with smtp_server() as mailbox:
        mail = f'[mail]\nhost = "127.0.0.1"\nport = {mailbox.port}\nsender = "oar@c0"\n'
        with running_system(database, settings=SETTINGS + mail) as system:
            program = system.work / "told"
            program.write_text(f'#!/bin/sh\necho "$2 $3 as $(id -un)" >> {system.work}/heard\n')
            program.chmod(0o755)

            mailed = system.oarsub("-n", "sim", "--notify", "[END]mail:alice@example.org", "true")
            heard = system.oarsub("-n", "calc", "--notify", f"exec:{program}", "true")
            system.wait_until_all_final([mailed, heard])

            wait_until(lambda: mailbox.mails, what="the mail came")
            wait_until(
                lambda: database.execute("SELECT 1 FROM notifications WHERE done_at IS NULL") == [], what="all are told"
            )
            assert [mail["Subject"].partition(" on ")[0] for mail in mailbox.mails] == [f"*OAR* [END]: {mailed} (sim)"]
            user = system.user.pw_name
            assert system.read("heard") == f"calc RUNNING as {user}\ncalc END as {user}\n"
    assert invariants.broken(database.engine) == []
