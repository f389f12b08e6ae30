"""Child processes that end with their parent and are started again when they crash."""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

from honcho.environ import parse_procfile

from feedback_site.parent_death import ending_with_parent

# Seconds up after which a crash is a new one, and not the next of a series.
LONG_LIFE = 30.0
# Seconds between two starts of what crashes again and again.
LONGEST_WAIT = 30.0
# Bytes; what is older is kept beside it once, so logs never fill the disk.
LARGEST_LOG = 10 * 2**20


class Process:
    """One child, its log file, and the patience to start it again.

    The kernel sends `stop_signal` to the child when this process dies, even by SIGKILL. The child
    leads a session of its own, so that a Ctrl-C in the terminal reaches nobody but its parent."""

    def __init__(
        self,
        name: str,
        command: str | list[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        patience: float = 5.0,
    ) -> None:
        self.name = name
        # `exec` leaves no shell in between that would keep the signals to itself.
        self.command = ["/bin/sh", "-c", f"exec {command}"] if isinstance(command, str) else command
        self.log = log
        self.env = dict(env) if env is not None else None
        self.cwd = cwd
        self.user = user
        self.stop_signal = stop_signal
        self.patience = patience
        self.crashes = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._start_again_at = 0.0

    @property
    def pid(self) -> int | None:
        """The process id of the child, None before its first start."""
        return self._child.pid if self._child else None

    def start(self) -> None:
        """Starts the child; its output is appended to the log."""
        with _open_log(self.log) as log:
            self._child = subprocess.Popen(
                ending_with_parent(self.command, stop_signal=self.stop_signal, user=self.user),
                # In another session than the terminal's, reading from it would stop the child
                # (SIGTTIN).
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.env,
                cwd=self.cwd,
                start_new_session=True,
            )
        self._started = time.monotonic()
        self._start_again_at = 0.0

    def is_running(self) -> bool:
        """Whether the child was started and has not ended."""
        return self._child is not None and self._child.poll() is None

    def keep_up(self) -> str | None:
        """Start the child again if it crashed, later after each crash; a sentence when it did."""
        if self._child is None or self.is_running():
            return None
        now = time.monotonic()
        if not self._start_again_at:
            self.crashes = 1 if now - self._started > LONG_LIFE else self.crashes + 1
            # Half a second after the first crash, doubled after each: no storm of starts.
            wait = min(2.0 ** (self.crashes - 2), LONGEST_WAIT)
            self._start_again_at = now + wait
            code = self._child.returncode
            reason = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
            return (
                f"{self.name} stopped ({reason}); starting it again in {wait:g} s; see {self.log}"
            )
        if now >= self._start_again_at:
            self.start()
        return None

    def signal(self, number: signal.Signals) -> None:
        """Sends the child a signal, if it was ever started."""
        if self._child:
            self._child.send_signal(number)

    def kill(self) -> None:
        """With whatever children it has in its session."""
        if self._child and self.is_running():
            os.killpg(self._child.pid, signal.SIGKILL)

    def last_words(self, lines: int = 8) -> str:
        """The end of its log, for an error message."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


def stop(processes: Iterable[Process]) -> None:
    """Ask all of them at once; kill those that are still there when their patience is over."""
    running = [process for process in processes if process.is_running()]
    for process in running:
        process.signal(process.stop_signal)
    began = time.monotonic()
    while running := [process for process in running if process.is_running()]:
        for process in running:
            if time.monotonic() - began > process.patience:
                process.kill()
        time.sleep(0.02)


def read_procfile(procfile: Path, *, env: Mapping[str, str], logs: Path) -> dict[str, Process]:
    """The processes of a Procfile by name, none of them started."""
    commands = parse_procfile(procfile.read_text()).processes
    return {
        name: Process(name, command, log=logs / f"{name}.log", env=env, cwd=procfile.parent)
        for name, command in commands.items()
    }


def _open_log(log: Path) -> IO[bytes]:
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LARGEST_LOG:
        log.replace(log.with_suffix(".log.1"))
    return log.open("ab")
