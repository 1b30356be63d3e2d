"""What the server does not keep in memory."""

from __future__ import annotations

import subprocess
import sys

from oarpy.modules.judas import MailMessenger
from oarpy.settings import Mail


def test_the_server_does_without_openssl_until_somebody_asks_for_it() -> None:
    program = (
        "import oarpy.almighty.__main__, sys\n"
        "print([name for name in ('ssl', '_hashlib', 'smtplib') if name in sys.modules])\n"
        "import hashlib, smtplib, ssl\n"
        "print(hashlib.sha256(b'').hexdigest()[:8], smtplib._have_ssl, ssl.create_default_context().check_hostname)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\ne3b0c442 True True\n"
    assert done.stderr == ""


def test_mail_promises_the_same_as_what_sends_it() -> None:
    from oarpy.drivers.smtp import SmtpMessenger

    settings = Mail()

    assert MailMessenger(settings).limit_s == SmtpMessenger(settings, "c0").limit_s
