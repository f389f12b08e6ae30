"""Commands that the kernel ends when their parent dies, even by SIGKILL (prctl(2), Linux only)."""

import os
import signal
import sys
from collections.abc import Sequence

# Runs between fork and the command. A `preexec_fn` may deadlock under threads; a fresh interpreter
# that asks for the signal and then becomes the command does not. The user is changed here, and not
# by Popen: the kernel forgets the signal when a process changes its user.
WRAPPER = """
import ctypes, os, pwd, signal, sys  # while it may still read them
parent, number, user, variable, *command = sys.argv[1:]
signal.signal(signal.SIGINT, signal.SIG_DFL)
if user:
    account = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, int(number))  # PR_SET_PDEATHSIG
if os.getppid() != int(parent):  # it died before we asked
    os._exit(1)
if variable:
    os.environ[variable] = str(os.getpid())
try:
    os.execvp(command[0], command)
except OSError as error:
    sys.exit(f"{command[0]}: {error.strerror}")
"""


def ending_with_parent(
    command: Sequence[str],
    *,
    stop_signal: signal.Signals,
    user: str | None = None,
    pid_variable: str = "",
) -> list[str]:
    """Wraps a command for Popen, so that it is sent `stop_signal` when this process dies. `user`:
    who runs it, with no groups but their own; only root may say so. `pid_variable`: the
    environment variable that tells the command, and what it starts, its process id."""
    wrapper = [sys.executable, "-I", "-S", "-c", WRAPPER, str(os.getpid()), str(int(stop_signal))]
    return [*wrapper, user or "", pid_variable, *command]
