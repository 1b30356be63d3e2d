from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from oarpy.errors import ConfigurationError, ServerUnavailable
from oarpy.instance import LONGEST_SOCKET_PATH, SOCKET_NAME, Instance, find_instance, shared, short_path


def test_the_environment_chooses_the_instance(tmp_path):
    assert find_instance({"OARPY_HOME": str(tmp_path)}).home == str(tmp_path)


def test_root_has_the_machine_s_instance(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    assert find_instance({}).home == "/var/lib/oarpy"


def test_a_user_s_own_instance_comes_before_the_machine_s(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (tmp_path / "oarpy").mkdir()

    assert find_instance({"XDG_DATA_HOME": str(tmp_path)}).home == str(tmp_path / "oarpy")


def test_clients_connect_through_the_socket_of_the_private_database(tmp_path):
    instance = Instance(str(tmp_path))

    assert instance.dsn("oar_user") == {
        "host": f"{tmp_path}/run/postgresql",
        "port": "5432",
        "dbname": "oar",
        "user": "oar_user",
    }


def test_a_deep_directory_has_its_socket_elsewhere(tmp_path):
    deep = Instance(str(tmp_path / ("x" * 100)))

    path = os.path.join(deep.socket_dir, SOCKET_NAME)

    assert len(path) <= LONGEST_SOCKET_PATH
    assert deep.socket_dir != Instance(str(tmp_path / ("y" * 100))).socket_dir


def test_a_socket_directory_that_another_account_may_have_made_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    deep = Instance(str(tmp_path / ("x" * 100)))

    with pytest.raises(ServerUnavailable, match="does not exist"):
        deep.dsn("oar_user")

    os.mkdir(deep.socket_dir, 0o777)
    try:
        with pytest.raises(ServerUnavailable, match="is not private"):
            deep.dsn("oar_user")
    finally:
        os.rmdir(deep.socket_dir)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://db.example.org/site",
        "postgresql+psycopg2://db.example.org/site",
        "host=db.example.org dbname=site",
    ],
)
def test_a_site_s_database_is_reached_as_the_role_that_is_needed(tmp_path, url):
    instance = Instance(str(tmp_path), database_url=url)

    assert instance.dsn("oar") == {"host": "db.example.org", "dbname": "site", "user": "oar"}


def test_the_database_can_stand_in_the_settings(tmp_path):
    (tmp_path / "oarpy.toml").write_text('[database]\nurl = "postgresql://db.example.org/site"\n')

    assert Instance(str(tmp_path)).dsn("oar")["host"] == "db.example.org"


def test_settings_that_are_no_toml_are_named(tmp_path):
    (tmp_path / "oarpy.toml").write_text("[database\nurl = 1\n")

    with pytest.raises(ConfigurationError, match=r"oarpy\.toml: "):
        Instance(str(tmp_path)).dsn("oar")


def test_what_comes_with_oarpy_is_found():
    assert os.path.isfile(shared("migrations", "env.py"))


def test_finding_an_instance_imports_next_to_nothing():
    script = "import sys; import oarpy.instance; oarpy.instance.find_instance().socket_dir; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()

    assert not {"re", "pathlib", "dataclasses", "tomllib", "logging", "psycopg2"} & set(loaded)


def test_a_socket_is_reached_however_long_its_path_is(tmp_path):
    directory = tmp_path / ("d" * 200)
    directory.mkdir()
    path = str(directory / "watch.sock")

    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        with short_path(path) as address:
            listener.bind(address)
            listener.listen()
        with short_path(path) as address:
            client.connect(address)

    assert os.path.exists(path)
    assert not os.path.exists(address)
