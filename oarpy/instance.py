"""Where an instance lives, and how to reach its database.

An instance is one directory: database, spool, logs, process ids, configuration.
Several live side by side.  Every command begins here, so this module imports
next to nothing.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from oarpy.errors import ConfigurationError, ServerUnavailable

SYSTEM_HOME = "/var/lib/oarpy"
DATABASE = "oar"
SOCKET_NAME = ".s.PGSQL.5432"
# sizeof(sockaddr_un.sun_path) less the final zero.
LONGEST_SOCKET_PATH = 107


def names_of_this_machine() -> frozenset[str]:
    """What a host may be called in the tables that is this machine."""
    name = os.uname().nodename
    return frozenset((name, name.partition(".")[0], "localhost"))


class Instance:
    """The files of one instance.

    An instance whose directory belongs to root serves every account of the
    machine; any other serves its owner alone.
    """

    __slots__ = ("_url", "home")

    def __init__(self, home: str, *, database_url: str | None = None) -> None:
        self.home = os.path.abspath(home)
        self._url = database_url

    def __repr__(self) -> str:
        return f"Instance({self.home!r})"

    @property
    def settings_file(self) -> str:
        return os.path.join(self.home, "oarpy.toml")

    @property
    def admission_rules_dir(self) -> str:
        return os.path.join(self.home, "admission_rules.d")

    @property
    def data_dir(self) -> str:
        """What belongs to the private PostgreSQL."""
        return os.path.join(self.home, "pg")

    @property
    def spool_dir(self) -> str:
        return os.path.join(self.home, "spool")

    @property
    def log_dir(self) -> str:
        return os.path.join(self.home, "log")

    @property
    def run_dir(self) -> str:
        """Process ids and locks; nothing in it outlives a restart of the machine."""
        return os.path.join(self.home, "run")

    @property
    def watch_socket(self) -> str:
        """Where those wait who watch jobs."""
        return os.path.join(self.run_dir, "watch.sock")

    @property
    def owner(self) -> int:
        """The user id that the instance belongs to; one's own before it exists."""
        try:
            return os.stat(self.home).st_uid
        except FileNotFoundError:
            return os.geteuid()
        except OSError as error:
            raise ConfigurationError(f"{self.home} cannot be reached: {error.strerror}") from error

    @property
    def serves_everybody(self) -> bool:
        return self.owner == 0

    @property
    def socket_dir(self) -> str:
        """Where the private PostgreSQL listens; follows from ``home`` alone, so that clients agree with the server."""
        beside = os.path.join(self.run_dir, "postgresql")
        if len(os.fsencode(os.path.join(beside, SOCKET_NAME))) <= LONGEST_SOCKET_PATH:
            return beside
        # Not zlib.crc32: two homes with one socket would be two instances with one database.
        from hashlib import sha256

        name = sha256(os.fsencode(os.path.realpath(self.home))).hexdigest()[:12]
        return f"/run/oarpy-{name}" if self.serves_everybody else f"/tmp/oarpy-{self.owner}-{name}"

    @property
    def database_url(self) -> str | None:
        """The site's own database, or None where the instance has a private one."""
        return self._url or _url_in(self.settings_file)

    def dsn(self, role: str) -> dict[str, str]:
        """The parameters with which libpq connects as ``role``.

        Raises ``ServerUnavailable`` where somebody else could be listening.
        """
        url = self.database_url
        if url is not None:
            from psycopg2.extensions import parse_dsn

            return {**parse_dsn(url.replace("postgresql+psycopg2:", "postgresql:", 1)), "user": role}
        directory = self.socket_dir
        if os.path.dirname(directory) == "/tmp":
            # Anybody could have made it while the instance was down.
            check_private(directory, self.owner)
        return {"host": directory, "port": "5432", "dbname": DATABASE, "user": role}


def find_instance(environ: Mapping[str, str] = os.environ) -> Instance:
    """The instance that this process means: OARPY_HOME's, else one's own, else the machine's."""
    return Instance(_home(environ), database_url=environ.get("OARPY_DATABASE") or None)


def shared(*parts: str) -> str:
    """The path of a file that comes with oarpy and is not Python code: ``shared("migrations")``.

    Raises ``ConfigurationError`` when the installation is incomplete.
    """
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if not os.path.exists(os.path.join(root, "setup.cfg")):  # not a source tree
        root = os.path.join(sys.prefix, "share", "oarpy")
    path = os.path.join(root, *parts)
    if not os.path.exists(path):
        raise ConfigurationError(f"this installation of oarpy is incomplete: {path} is missing")
    return path


@contextmanager
def short_path(path: str) -> Iterator[str]:
    """Another name of ``path``, as long as the block lasts; it fits into the address of a socket however long that is.

    Raises:
        OSError: its directory cannot be reached.
    """
    directory, name = os.path.split(path)
    place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{place}/{name}"
    finally:
        os.close(place)


def check_private(directory: str, owner: int) -> None:
    """Raises ``ServerUnavailable`` unless ``directory`` is a directory that ``owner`` alone can write."""
    try:
        found = os.lstat(directory)
    except FileNotFoundError:
        raise ServerUnavailable(f"no server is running here: {directory} does not exist") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o022:
        raise ServerUnavailable(f"{directory} is not private to user {owner}; somebody else may have made it")


def _home(environ: Mapping[str, str]) -> str:
    if chosen := environ.get("OARPY_HOME"):
        return chosen
    if os.geteuid() == 0:
        return SYSTEM_HOME
    data = environ.get("XDG_DATA_HOME") or os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".local/share")
    own = os.path.join(data, "oarpy")
    if os.path.isdir(own) or not os.path.isdir(SYSTEM_HOME):
        return own
    return SYSTEM_HOME


def _url_in(settings_file: str) -> str | None:
    try:
        with open(settings_file, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"{settings_file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{settings_file} is not text in UTF-8") from error
    # Reading TOML costs a command 5 ms, and hardly any instance has such a line.
    if not any(line.lstrip().startswith("url") for line in text.splitlines()):
        return None
    import tomllib

    try:
        url = tomllib.loads(text).get("database", {}).get("url")
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{settings_file}: {error}") from error
    return str(url) if url else None
