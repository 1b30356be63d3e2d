"""The settings of an instance, typed, each with its default.

``conf/oarpy.toml`` documents every one of them; a test proves that it agrees with
the classes here.  A duration is written as text with its unit ("20 s", "5 min",
"2 h", "7 d"), so that nobody has to know in which unit a number is meant.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import shlex
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from oarpy.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Database:
    url: str | None = None
    max_connections: int = 200
    shared_buffers_mib: int = 64
    user_connections: int = 150
    user_temp_file_mib: int = 256


@dataclass(frozen=True, slots=True)
class Server:
    lease: timedelta = timedelta(seconds=10)
    turn_period: timedelta = timedelta(seconds=5)
    sarko_period: timedelta = timedelta(seconds=2)
    finaud_period: timedelta = timedelta(seconds=10)
    restart_delay: timedelta = timedelta(milliseconds=200)
    restart_delay_max: timedelta = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Scheduler:
    grid: timedelta = timedelta(seconds=60)
    security: timedelta = timedelta(seconds=60)
    period: timedelta = timedelta(seconds=60)
    min_interval: timedelta = timedelta(milliseconds=50)
    plan_first: int | None = 2000
    predictions_interval: timedelta = timedelta(seconds=1)
    suspended_types: tuple[str, ...] = ("default",)
    jobs_per_user: int | None = None

    def __post_init__(self) -> None:
        if self.jobs_per_user == 0:
            raise ConfigurationError("scheduler.jobs_per_user must be 1 or more; without it, all are looked at")


@dataclass(frozen=True, slots=True)
class Accounting:
    window: timedelta = timedelta(days=1)

    def __post_init__(self) -> None:
        if self.window < timedelta(minutes=1):
            raise ConfigurationError("accounting.window must be a minute or more")


@dataclass(frozen=True, slots=True)
class Fairshare:
    window: timedelta = timedelta(days=30)
    refresh: timedelta = timedelta(seconds=60)
    coefficient_project: float = 0.0
    coefficient_user: float = 2.0
    coefficient_asked: float = 1.0
    project_targets: Mapping[str, float] = field(default_factory=dict)
    user_targets: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Multifactor:
    age: float = 1.0
    queue: float = 1.0
    work: float = 0.0
    size: float = 0.0
    karma: float = 1.0
    qos: float = 1.0
    nice: float = 1.0
    age_limit: timedelta = timedelta(days=7)
    queues: Mapping[str, float] = field(default_factory=dict)
    work_favours: Literal["small", "large"] = "small"
    size_favours: Literal["small", "large"] = "small"


@dataclass(frozen=True, slots=True)
class Quotas:
    resource_types: tuple[str, ...] = ("default",)
    timezone: str | None = None
    horizon: timedelta = timedelta(days=60)

    def __post_init__(self) -> None:
        if self.timezone is not None and not _is_time_zone(self.timezone):
            raise ConfigurationError(f"quotas.timezone must be a time zone such as Europe/Paris, not {self.timezone!r}")
        if not timedelta(days=1) <= self.horizon <= timedelta(days=3660):
            raise ConfigurationError("quotas.horizon must be a day or more, and ten years at most")


@dataclass(frozen=True, slots=True)
class Reservations:
    wait_for_resources: timedelta = timedelta(seconds=300)
    kill_besteffort_before: timedelta = timedelta(seconds=60)
    validation_hook: str | None = None


@dataclass(frozen=True, slots=True)
class Kill:
    soft: timedelta = timedelta(seconds=20)
    hard: timedelta = timedelta(seconds=300)
    grace: timedelta = timedelta(seconds=60)


_SSH_OPTIONS = shlex.split("-o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=10 -o ServerAliveCountMax=3")


@dataclass(frozen=True, slots=True)
class Nodes:
    suspected_to_dead: timedelta | None = None
    spool_dir: str | None = None
    min_uid: int | None = None
    memory_share: bool = False
    gpu_device: str = "/dev/nvidia#"
    clean_ipc: bool = True
    clean_processes: bool = False
    clean_directories: tuple[str, ...] = ()
    order_timeout: timedelta = timedelta(seconds=60)
    ssh: str = "ssh"
    python: str = "python3"
    oarsh_ports: str | None = None
    prepare_timeout: timedelta = timedelta(seconds=60)
    window: int = 64
    lease: timedelta = timedelta(seconds=60)
    lease_margin: timedelta = timedelta(seconds=15)

    def __post_init__(self) -> None:
        if self.window == 0:
            raise ConfigurationError("nodes.window must be 1 or more")
        for path in self.clean_directories:
            if not path.startswith("/") or not path.strip("/"):
                raise ConfigurationError(
                    f"nodes.clean_directories holds {path!r}, which is no directory's absolute path"
                )
        if not self.gpu_device.startswith("/") or "#" not in self.gpu_device:
            raise ConfigurationError("nodes.gpu_device must be a path with a # for the number, as /dev/nvidia#")
        if self.lease < timedelta(seconds=1):
            raise ConfigurationError("nodes.lease must be a second or more")
        try:
            shlex.split(self.ssh)
        except ValueError as error:
            raise ConfigurationError(f"nodes.ssh cannot be split into words: {str(error).lower()}") from error
        if self.oarsh_ports is not None:
            _ports("nodes.oarsh_ports", self.oarsh_ports)

    @property
    def ssh_words(self) -> tuple[str, ...]:
        """The command that reaches other hosts, as words; () when none is reached.

        OpenSSH takes the first value of an option: what the site says itself goes before ours, without
        which a host that is cut off is hardly noticed.
        """
        words = tuple(shlex.split(self.ssh))
        is_openssh = any(word.rpartition("/")[2] == "ssh" for word in words)
        return (*words, *_SSH_OPTIONS) if is_openssh else words

    @property
    def oarsh_span(self) -> tuple[int, int] | None:
        """The first and the last of the ports at which hosts take oarsh in; None: any."""
        return None if self.oarsh_ports is None else _ports("nodes.oarsh_ports", self.oarsh_ports)


@dataclass(frozen=True, slots=True)
class Health:
    check: Literal["none", "ssh", "ping", "command"] = "ssh"
    command: str | None = None
    interval: timedelta = timedelta(minutes=5)
    retry: timedelta = timedelta(minutes=1)
    timeout: timedelta = timedelta(seconds=20)
    window: int = 25
    tries: int = 2
    busy_hosts: bool = False
    repair: bool = True
    quarantine: bool = True
    quarantine_deaths: int = 5
    quarantine_window: timedelta = timedelta(minutes=30)
    fast_death: timedelta = timedelta(seconds=60)

    def __post_init__(self) -> None:
        if self.check == "command" and not (self.command or "").strip():
            raise ConfigurationError("health.command must name the program when health.check is command")
        for name in ("window", "tries", "quarantine_deaths"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"health.{name} must be 1 or more")
        if self.check == "command":
            try:
                shlex.split(self.command or "")
            except ValueError as error:
                raise ConfigurationError(f"health.command is no command line: {error}") from error


@dataclass(frozen=True, slots=True)
class Jobs:
    default_queue: str = "default"
    default_resources: str = "/resource_id=1"
    default_walltime: timedelta = timedelta(hours=2)
    nodes_level: str = "network_address"
    max_array: int = 100_000
    max_resubmissions: int = 10
    max_reruns: int = 1000
    undelete_within: timedelta = timedelta(hours=1)
    users_may_suspend: bool = False
    client_timeout: timedelta = timedelta(seconds=60)
    max_waiting_reservations: int = 2


@dataclass(frozen=True, slots=True)
class Requests:
    lifetime: timedelta = timedelta(seconds=60)
    max_bytes: int = 2_097_152
    max_pending_per_user: int = 1000
    batch: int = 50


@dataclass(frozen=True, slots=True)
class Mail:
    host: str | None = None
    port: int = 25
    starttls: bool = False
    username: str | None = None
    password_file: str | None = None
    sender: str | None = None
    admin: str | None = None
    timeout: timedelta = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Notify:
    exec_timeout: timedelta = timedelta(seconds=120)
    attempts: int = 5
    retry_delay: timedelta = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Prologue:
    server_prologue: str | None = None
    server_epilogue: str | None = None
    node_prologue: str | None = None
    node_epilogue: str | None = None
    timeout: timedelta = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class WalltimeChange:
    enabled: bool = True
    max_increase: timedelta | None = None
    max_increase_percent: int | None = None
    min_walltime: timedelta = timedelta()
    reduction: bool = True
    apply_time: timedelta = timedelta()
    increment: timedelta = timedelta()
    timeout: timedelta | None = None
    users_to_force: str = ""
    users_to_delay: str = ""
    #: What differs for jobs of these queues; the rest is as above.
    queues: Mapping[str, WalltimeChange] = field(default_factory=dict)

    def of(self, queue: str) -> WalltimeChange:
        """The rules for jobs of a queue."""
        return self.queues.get(queue, self)


@dataclass(frozen=True, slots=True)
class Energy:
    enabled: bool = False
    idle_time: timedelta = timedelta(seconds=600)
    sleep_time: timedelta = timedelta(seconds=600)
    wake_time: timedelta = timedelta(seconds=600)


@dataclass(frozen=True, slots=True)
class Tokens:
    scripts: Mapping[str, str] = field(default_factory=dict)
    timeout: timedelta = timedelta(seconds=10)
    period: timedelta = timedelta(seconds=10)
    settle: timedelta = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Phoenix:
    soft_command: str | None = None
    hard_command: str | None = None
    hard_after: timedelta = timedelta(seconds=300)
    timeout: timedelta = timedelta(seconds=60)
    at_once: int = 10
    in_progress: int = 20

    def __post_init__(self) -> None:
        for name, command in (("soft_command", self.soft_command), ("hard_command", self.hard_command)):
            if command is None:
                continue
            if "{NODENAME}" not in command:
                raise ConfigurationError(f"phoenix.{name} must say where the host's name goes: {{NODENAME}}")
            if command.count('"') % 2 or command.count("'") % 2:
                raise ConfigurationError(f"phoenix.{name} has a quote that is not closed")


@dataclass(frozen=True, slots=True)
class Retention:
    requests: timedelta = timedelta(days=7)
    notifications: timedelta = timedelta(days=30)
    events: timedelta | None = timedelta(days=365)
    jobs: timedelta | None = None
    accounting: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Log:
    level: Literal["debug", "info", "warning", "error"] = "info"


@dataclass(frozen=True, slots=True)
class Settings:
    """One field per section of the file."""

    database: Database = field(default_factory=Database)
    server: Server = field(default_factory=Server)
    scheduler: Scheduler = field(default_factory=Scheduler)
    accounting: Accounting = field(default_factory=Accounting)
    fairshare: Fairshare = field(default_factory=Fairshare)
    multifactor: Multifactor = field(default_factory=Multifactor)
    quotas: Quotas = field(default_factory=Quotas)
    reservations: Reservations = field(default_factory=Reservations)
    kill: Kill = field(default_factory=Kill)
    nodes: Nodes = field(default_factory=Nodes)
    health: Health = field(default_factory=Health)
    jobs: Jobs = field(default_factory=Jobs)
    requests: Requests = field(default_factory=Requests)
    mail: Mail = field(default_factory=Mail)
    notify: Notify = field(default_factory=Notify)
    prologue: Prologue = field(default_factory=Prologue)
    walltime_change: WalltimeChange = field(default_factory=WalltimeChange)
    tokens: Tokens = field(default_factory=Tokens)
    energy: Energy = field(default_factory=Energy)
    phoenix: Phoenix = field(default_factory=Phoenix)
    retention: Retention = field(default_factory=Retention)
    log: Log = field(default_factory=Log)


def load(path: str) -> Settings:
    """The settings that the file at ``path`` makes; without a file, the defaults.

    Raises ``ConfigurationError`` naming the section and the key that is wrong.
    """
    if not os.path.exists(path):
        return Settings()
    try:
        with open(path, "rb") as file:
            document = tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigurationError(f"{path}: {error}") from error
    try:
        return parse(document)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def parse(document: Mapping[str, Any]) -> Settings:
    """The settings that a parsed TOML document makes."""
    sections = get_type_hints(Settings)
    for name, value in document.items():
        _check_known(name, sections, "section")
        if not isinstance(value, dict):
            raise ConfigurationError(f"{name} is a section; write [{name}] above its settings")
    return Settings(**{name: _section(kind, name, document.get(name, {})) for name, kind in sections.items()})


def _is_time_zone(name: str) -> bool:
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        return False
    return True


_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|min|h|d)\s*")
_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def _ports(name: str, text: str) -> tuple[int, int]:
    """The first and the last of a range of ports such as 40000-40015."""
    first, dash, last = text.partition("-")
    words = (first.strip(), last.strip() if dash else first.strip())
    if all(word.isascii() and word.isdigit() and len(word) < 6 for word in words):
        span = (int(words[0]), int(words[1]))
        if 1024 <= span[0] <= span[1] <= 65535:
            return span
    raise ConfigurationError(f"{name} is {text!r}, which is no range of ports from 1024 on, as 40000-40015")


def parse_duration(text: str) -> timedelta | None:
    """What "20 s", "1.5 h" or "7 d" says, or None."""
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    try:
        return timedelta(seconds=float(match[1]) * _SECONDS[match[2]])
    except OverflowError:
        return None


def _section(kind: type, section: str, values: Mapping[str, Any]) -> Any:
    types = get_type_hints(kind)
    for key in values:
        _check_known(key, types, f"setting in [{section}]")
    plain = {key: value for key, value in values.items() if not _has_parts(types[key], kind)}
    made = kind(**{key: _value(f"{section}.{key}", types[key], value) for key, value in plain.items()})
    return replace(made, **{key: _parts(made, f"{section}.{key}", values[key]) for key in values if key not in plain})


def _has_parts(kind: Any, section: type) -> bool:
    """Whether a setting of this kind is a mapping to sections like its own."""
    return get_origin(kind) is Mapping and get_args(kind)[1] is section


def _parts(whole: Any, section: str, parts: object) -> dict[str, Any]:
    """For each name what differs from ``whole``."""
    if not isinstance(parts, dict) or not all(isinstance(part, dict) for part in parts.values()):
        raise ConfigurationError(
            f'{section} must be names with settings, such as {{ night = {{ max_increase = "2 h" }} }}, not {parts!r}'
        )
    types = {key: kind for key, kind in get_type_hints(type(whole)).items() if not _has_parts(kind, type(whole))}
    found = {}
    for name, values in parts.items():
        for key in values:
            _check_known(key, types, f"setting in [{section}.{name}]")
        found[name] = replace(
            whole, **{key: _value(f"{section}.{name}.{key}", types[key], value) for key, value in values.items()}
        )
    return found


def _check_known(name: str, known: Collection[str], what: str) -> None:
    if name in known:
        return
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known are: {', '.join(sorted(known))}"
    raise ConfigurationError(f"{name} is not a {what}; {hint}")


def _number(name: str, value: object) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):  # type: ignore[arg-type]  # it is a number
        raise ConfigurationError(f"{name} must be a number, not {value!r}")
    return float(value)  # type: ignore[arg-type]  # as above


_WANTED = {bool: "true or false", int: "a whole number, 0 or more", str: "text in quotes"}


def _value(name: str, kind: Any, value: object) -> object:
    if isinstance(kind, UnionType):
        kind = next(member for member in get_args(kind) if member is not NoneType)
    if kind is timedelta:
        duration = parse_duration(value) if isinstance(value, str) else None
        if duration is None:
            raise ConfigurationError(
                f'{name} must be a duration such as "20 s", "5 min", "2 h" or "7 d", not {value!r}'
            )
        return duration
    if get_origin(kind) is tuple:
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise ConfigurationError(f'{name} must be a list of texts such as ["default"], not {value!r}')
        return tuple(value)
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ConfigurationError(f"{name} must be one of {', '.join(get_args(kind))}, not {value!r}")
        return value
    if kind is float:
        return _number(name, value)
    if kind == Mapping[str, str]:
        if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
            raise ConfigurationError(f'{name} must be names with texts, such as {{ a = "b" }}, not {value!r}')
        return value
    if get_origin(kind) is Mapping:
        if not isinstance(value, dict):
            raise ConfigurationError(f"{name} must be names with numbers, such as {{ alice = 30 }}, not {value!r}")
        return {key: _number(f"{name}.{key}", number) for key, number in value.items()}
    # type() and not isinstance(): true is an int to Python, and to nobody else.
    if type(value) is not kind or (kind is int and isinstance(value, int) and value < 0):
        raise ConfigurationError(f"{name} must be {_WANTED[kind]}, not {value!r}")
    return value
