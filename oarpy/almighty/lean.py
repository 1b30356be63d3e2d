"""Keeps Python's OpenSSL out of the server's memory, 5 MiB that nothing there uses before a mail goes out by STARTTLS.

Importing this imports what would bring it, as where Python has none, for which all of
it is made.  ``ssl`` can be imported afterwards as ever.  (psycopg2 asks for ``ssl`` to tell
libpq who sets up the locks of an OpenSSL before 1.1; libpq's own TLS does not depend on it.)
"""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib.util import find_spec

_BY_OPENSSL = ("ssl", "_hashlib")


def _import_without_openssl() -> None:
    missing = [name for name in _BY_OPENSSL if name not in sys.modules]
    # Some are built without hash functions of their own.
    if find_spec("_md5") is None:
        return
    for name in missing:
        sys.modules[name] = None  # type: ignore[assignment]  # what import takes for "there is none"
    try:
        # One that insists on OpenSSL is imported again, by who needs it.
        for name in ("asyncio", "hashlib", "psycopg2"):
            with suppress(ImportError):
                __import__(name)
    finally:
        for name in missing:
            del sys.modules[name]


_import_without_openssl()
