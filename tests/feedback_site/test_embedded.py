"""What `make run` embeds comes up in any weather, and leaves nobody behind."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from redis import Redis

from feedback_site import embedded

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("site")
    yield folder
    shutil.rmtree(folder)


@contextmanager
def database(data_dir: Path, **more: Any) -> Iterator[embedded.Service]:
    with (
        embedded.socket_folder(data_dir) as sockets,
        embedded.postgres(data_dir, sockets, logs=data_dir / "logs", **more) as service,
    ):
        yield service


def connect(data_dir: Path) -> psycopg.Connection:
    return psycopg.connect(host=str(data_dir / "run"), user="feedback_site", dbname="feedback_site")


def test_postgresql_keeps_its_data_from_one_start_to_the_next(data_dir):
    with database(data_dir), connect(data_dir) as connection:
        connection.execute("CREATE TABLE word (text text)")
        connection.execute("INSERT INTO word VALUES ('ÄPFEL')")
    with database(data_dir), connect(data_dir) as connection:
        assert connection.execute("SELECT lower(text) FROM word").fetchall() == [("äpfel",)]
    assert embedded._servers(data_dir / "postgres") == []


def test_postgresql_is_not_on_the_network(data_dir):
    with database(data_dir) as service:
        connections = psutil.Process(service.process.pid).net_connections()
    assert {connection.family.name for connection in connections} <= {"AF_UNIX"}


def test_nobody_else_may_enter_the_folder_of_the_sockets(data_dir):
    with database(data_dir):
        assert stat.S_IMODE((data_dir / "run").stat().st_mode) == 0o700


def test_it_takes_over_from_a_server_that_a_killed_start_left_running(data_dir):
    with embedded.socket_folder(data_dir) as sockets, ExitStack() as first_start:
        service = first_start.enter_context(
            embedded.postgres(data_dir, sockets, logs=data_dir / "logs")
        )
        left_running = service.process.pid
        with database(data_dir) as taken_over, connect(data_dir) as connection:
            assert taken_over.process.pid != left_running
            assert connection.execute("SELECT 1").fetchone() == (1,)
            assert not psutil.pid_exists(left_running) or not service.process.is_running()


def test_it_starts_again_after_the_server_was_killed(data_dir):
    with database(data_dir) as service, connect(data_dir) as connection:
        connection.execute("CREATE TABLE word (text text)")
        connection.commit()
        os.kill(service.process.pid, signal.SIGKILL)
        with database(data_dir), connect(data_dir) as again:
            assert again.execute("SELECT count(*) FROM word").fetchone() == (0,)


def test_the_number_of_a_dead_server_may_be_in_use_by_another_program(data_dir):
    with database(data_dir):
        left = (data_dir / "postgres" / "postmaster.pid").read_text()
    own_number = "\n".join([str(os.getpid()), *left.split("\n")[1:]])
    (data_dir / "postgres" / "postmaster.pid").write_text(own_number)
    with database(data_dir), connect(data_dir) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_an_interrupted_first_start_leaves_nothing_that_hinders_the_second(data_dir):
    half = data_dir / "postgres.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    with database(data_dir), connect(data_dir) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_server_that_cannot_start_shows_the_end_of_its_log(data_dir, monkeypatch):
    with database(data_dir):
        pass
    (data_dir / "postgres" / "postgresql.conf").write_text("no_such_setting = 1\n")
    monkeypatch.setattr(embedded, "START_SECONDS", 0.5)
    with pytest.raises(embedded.CannotStart, match="no_such_setting"), database(data_dir):
        pass


def test_a_folder_that_others_could_read_is_closed_and_one_hears_of_it(data_dir):
    said = []
    data_dir.chmod(0o755)
    for _ in range(2):
        embedded.close(data_dir, say=said.append)
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    assert len(said) == 1 and str(data_dir) in said[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="PostgreSQL runs as somebody else only for root")
def test_folders_around_the_data_are_left_as_they_are_and_named(data_dir, monkeypatch):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/var/nowhere")
    around = data_dir / "around"
    inner = around / "data"
    inner.mkdir(parents=True)
    data_dir.chmod(0o711)
    around.chmod(0o700)
    with pytest.raises(embedded.CannotStart, match=f"chmod o\\+x {around}"), database(inner):
        pass
    assert stat.S_IMODE(around.stat().st_mode) == 0o700
    assert not (inner / "postgres").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="PostgreSQL runs as somebody else only for root")
def test_a_folder_in_the_temporary_one_is_opened_and_one_hears_of_it(data_dir):
    around, said = data_dir / "around", []
    inner = around / "data"
    inner.mkdir(parents=True)
    around.chmod(0o700)
    with database(inner, say=said.append):
        assert stat.S_IMODE(around.stat().st_mode) == 0o701
    assert any(f"must pass through {around}" in each for each in said)


@pytest.mark.skipif(os.geteuid() != 0, reason="PostgreSQL runs as somebody else only for root")
def test_others_may_pass_through_the_data_and_read_nothing(data_dir):
    data_dir.chmod(0o700)
    with database(data_dir):
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o701
        modes = {file: stat.S_IMODE(file.stat().st_mode) for file in data_dir.iterdir()}
    assert {file.name for file, mode in modes.items() if mode & 0o077} == set()


def test_redis_answers_on_its_socket_and_keeps_nothing(data_dir):
    with embedded.socket_folder(data_dir) as sockets:
        for _ in range(2):
            with embedded.redis(sockets, logs=data_dir / "logs") as service:
                client = Redis.from_url(service.url)
                assert stat.S_IMODE((sockets / "redis.sock").stat().st_mode) == 0o600
                assert client.get("word") is None
                client.set("word", "kept")
            assert not service.process.is_running()


def test_a_folder_with_a_long_name_gets_short_sockets(data_dir):
    deep = data_dir / ("long" * 25)
    deep.mkdir()
    data_dir.chmod(0o711)
    with embedded.socket_folder(deep) as sockets:
        assert len(str(sockets)) < 90
        logs = deep / "logs"
        with embedded.postgres(deep, sockets, logs=logs, lasting=False, say=lambda _: None):
            pass
    assert not sockets.exists()


def test_a_second_start_in_the_same_folder_is_told_where_the_first_is(data_dir):
    with (
        embedded.claimed(data_dir, site_url="http://127.0.0.1:8123"),
        pytest.raises(embedded.CannotStart, match="already running at http://127.0.0.1:8123"),
        embedded.claimed(data_dir, site_url="http://127.0.0.1:8124"),
    ):
        pass
    with embedded.claimed(data_dir, site_url="http://127.0.0.1:8124"):
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(embedded.CannotStart, match="Cannot write to .*file.*make run DATA_DIR="),
        embedded.claimed(tmp_path / "file" / "data", site_url=""),
    ):
        pass


def test_the_note_of_the_addresses_is_for_its_owner_alone_and_goes_away(tmp_path):
    note = tmp_path / "services.json"
    with embedded.noted(tmp_path, redis_url="unix:///x"):
        assert stat.S_IMODE(note.stat().st_mode) == 0o600
        assert json.loads(note.read_text()) == {"redis_url": "unix:///x", "pid": os.getpid()}
    assert not note.exists()


def test_nothing_is_left_when_the_starter_is_killed(data_dir):
    program = (
        "import sys, time, pathlib\n"
        "from feedback_site import embedded\n"
        "data_dir = pathlib.Path(sys.argv[1])\n"
        "with embedded.socket_folder(data_dir) as sockets:\n"
        "  with embedded.postgres(data_dir, sockets, logs=data_dir, say=id) as database:\n"
        "    with embedded.redis(sockets, logs=data_dir) as redis:\n"
        "      print(database.process.pid, redis.process.pid, flush=True)\n"
        "      time.sleep(60)\n"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", program, str(data_dir)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert starter.stdout
    children = [psutil.Process(int(pid)) for pid in starter.stdout.readline().split()]
    assert len(children) == 2
    starter.kill()
    starter.wait()
    deadline = time.monotonic() + 10
    while any(_lives(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_lives(child) for child in children)


def _lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
