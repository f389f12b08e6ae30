"""Passwords are hashed by Argon2id, apart from all that others need meanwhile: no connection of the
database's pool is held, of several cores one stays free for them, and on the rest they go first.

Memory and passes are those of OWASP's Password Storage Cheat Sheet: 19 MiB, two passes."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from django.contrib.auth import hashers

from feedback_site.pool import release_connections

T = TypeVar("T")
NICENESS = 10
_turn = threading.BoundedSemaphore(max(1, (os.cpu_count() or 1) - 1))


def _apart(hash: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    release_connections()
    # A thread of its own: who has once stepped back may not step forward again.
    with _turn, ThreadPoolExecutor(1, "password", initializer=_step_back) as thread:
        return thread.submit(hash, *args, **kwargs).result()


def _step_back() -> None:
    """Lets all others go first. On Linux a thread has a priority of its own."""
    with suppress(AttributeError, OSError):
        this = (os.PRIO_PROCESS, threading.get_native_id())
        os.setpriority(*this, os.getpriority(*this) + NICENESS)


class Apart:
    def encode(self, *args: Any, **kwargs: Any) -> str:
        return _apart(super().encode, *args, **kwargs)  # type: ignore[misc]


class Argon2(Apart, hashers.Argon2PasswordHasher):
    time_cost, memory_cost, parallelism = 2, 19 * 1024, 1

    def verify(self, password: str, encoded: str) -> bool:
        return _apart(super().verify, password, encoded)


class PBKDF2(Apart, hashers.PBKDF2PasswordHasher):
    """Of passwords that were set before; the next sign-in hashes them by Argon2."""
