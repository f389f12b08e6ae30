"""Children are kept running, stopped for good, and never outlive their parent."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from feedback_site import processes
from feedback_site.processes import Process, read_procfile, stop

ROOT = Path(__file__).resolve().parents[2]
STUBBORN = "trap '' TERM; echo ready; sleep 60; true"


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Callable[[str], Process]]:
    children: list[Process] = []

    def start(command: str) -> Process:
        process = Process("child", command, log=tmp_path / "logs" / "child.log")
        children.append(process)
        process.start()
        return process

    yield start
    for process in children:
        process.kill()


def eventually(condition: Callable[[], object], *, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_the_procfile_names_four_processes(tmp_path):
    found = read_procfile(ROOT / "Procfile", env={}, logs=tmp_path)
    assert list(found) == ["web", "worker", "trainer", "inference"]
    assert found["web"].log == tmp_path / "web.log"


def test_a_command_of_the_procfile_sees_its_environment_without_a_shell_around_it(tmp_path):
    (tmp_path / "Procfile").write_text("# a remark\nsay: sh -c 'echo port $PORT; sleep 60'\n")
    env = {"PATH": os.environ["PATH"], "PORT": "8123"}
    process = read_procfile(tmp_path / "Procfile", env=env, logs=tmp_path)["say"]
    process.start()
    try:
        assert eventually(lambda: process.last_words() == "port 8123")
        assert psutil.Process(process.pid).cmdline()[:2] == ["sh", "-c"]
    finally:
        stop([process])


def test_a_crashed_process_is_started_again_later_after_each_crash(child):
    process = child("sh -c 'echo once more; exit 3'")
    waits = []
    for _ in range(3):
        assert eventually(lambda: not process.is_running())
        before = process.pid
        news = process.keep_up()
        assert news and "child stopped (exit code 3)" in news and str(process.log) in news
        waits.append(float(re.search(r"again in ([\d.]+) s", news)[1]))

        def started_again(before: int | None = before) -> bool:
            return process.keep_up() is None and process.pid != before

        began = time.monotonic()
        assert eventually(started_again)
        assert time.monotonic() - began > waits[-1] - 0.1
    assert waits == [0.5, 1.0, 2.0]
    assert eventually(lambda: process.log.read_text().count("once more") == 4)


def test_a_crash_after_a_long_life_counts_as_the_first(child, monkeypatch):
    process = child("false")
    process.crashes = 6
    monkeypatch.setattr(processes, "LONG_LIFE", 0.0)
    eventually(lambda: not process.is_running())
    process.keep_up()
    assert process.crashes == 1


def test_a_process_that_ignores_the_request_is_killed_with_its_children(child):
    process = child(f'sh -c "{STUBBORN}"')
    assert eventually(lambda: process.last_words() == "ready")
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children()]
    process.patience = 0.3
    stop([process])
    assert not process.is_running()
    assert eventually(lambda: not any(lives(member) for member in family))


def test_children_are_asked_to_stop_when_their_parent_is_killed(tmp_path):
    program = (
        "import pathlib, time\n"
        "from feedback_site.processes import Process\n"
        "child = Process('child', 'sleep 60', log=pathlib.Path('child.log'))\n"
        "child.start()\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert parent.stdout
    orphan = psutil.Process(int(parent.stdout.readline()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert eventually(lambda: not lives(orphan))


def test_a_large_log_is_put_aside_at_the_next_start(child, monkeypatch):
    monkeypatch.setattr(processes, "LARGEST_LOG", 3)
    process = child("echo first")
    eventually(lambda: not process.is_running())
    process.start()
    eventually(lambda: not process.is_running())
    assert process.log.read_text() == "first\n"
    assert process.log.with_suffix(".log.1").read_text() == "first\n"
