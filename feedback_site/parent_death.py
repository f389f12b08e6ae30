"""Processes that the kernel ends when their parent dies, even by SIGKILL (prctl(2), Linux only).

Nothing but the standard library: trainers import this too, and it runs as a script of its own."""

from __future__ import annotations

import ctypes  # with the others, before `main` becomes a user who may not read Python's files
import os
import pwd
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


def ending_with_parent(
    command: Sequence[str],
    *,
    stop_signal: signal.Signals,
    user: str | None = None,
    pid_variable: str = "",
) -> list[str]:
    """Wraps a command for Popen, so that it is sent `stop_signal` when this process dies. `user`:
    who runs it, with no groups but their own; only root may say so. `pid_variable`: the
    environment variable that tells the command, and what it starts, its process id.

    A `preexec_fn` may deadlock under threads; a fresh interpreter that asks for the signal and then
    becomes the command does not."""
    wrapper = [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(stop_signal))]
    return [*wrapper, user or "", pid_variable, *command]


def end_with_parent(parent: int, stop_signal: int) -> bool:
    """Has the kernel send this process `stop_signal` when its parent dies. Returns whether the
    process with the id `parent` is that still: no signal comes for a death before the call."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, stop_signal)
    return os.getppid() == parent


def main() -> None:
    """Becomes the command: PARENT STOP_SIGNAL USER PID_VARIABLE COMMAND …, as `ending_with_parent`
    puts them."""
    parent, number, user, variable, *command = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Here, and not by Popen: the kernel forgets the signal when a process changes its user.
    if user:
        account = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    if not end_with_parent(int(parent), int(number)):
        os._exit(1)
    if variable:
        os.environ[variable] = str(os.getpid())
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
