"""`make run` says what is in its way, and then has started nothing."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from feedback_site import up

ROOT = Path(__file__).resolve().parents[2]


def start(**env: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.endswith("_URL")}
    return subprocess.run(
        [sys.executable, "-m", "feedback_site.up"],
        cwd=ROOT,
        env=clean | env,
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_a_port_in_use_is_named_with_another_and_nothing_is_started(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        answer = start(PORT=str(port), DATA_DIR=str(tmp_path))
    assert answer.returncode == 1
    assert f"Port {port} is in use. Choose another: make run PORT={port + 1}\n" == answer.stderr
    assert not (tmp_path / "postgres").exists()
    assert not (tmp_path / "services.json").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    answer = start(DATA_DIR=str(tmp_path / "file" / "data"))
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"Cannot write to {tmp_path / 'file'}")
    assert "make run DATA_DIR=" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_port_that_is_no_number_is_no_traceback(tmp_path):
    answer = start(PORT="http", DATA_DIR=str(tmp_path))
    assert answer.returncode == 1
    assert "setting" in answer.stderr and "http" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_free_port_is_free():
    port = up.free_port()
    up.ensure_free(port)
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(up.CannotStart, match=f"Port {port} is in use"),
    ):
        up.ensure_free(port)


def test_a_step_that_fails_shows_its_last_words():
    with pytest.raises(up.CannotStart, match="arithmetic failed: python -c 1/0\n(.*\n)+ZeroDiv"):
        up.run("arithmetic", "-c", "1/0", env=dict(os.environ), say=lambda _: None)
