"""Passwords are hashed by Argon2id, apart from all that others need meanwhile: no connection of the
database's pool is held, and of several cores one stays free for them.

Memory and passes are those of OWASP's Password Storage Cheat Sheet: 19 MiB, two passes."""

import os
from threading import BoundedSemaphore
from typing import Any

from django.contrib.auth import hashers

from feedback_site.pool import release_connections

_turn = BoundedSemaphore(max(1, (os.cpu_count() or 1) - 1))


class Apart:
    def encode(self, *args: Any, **kwargs: Any) -> str:
        release_connections()
        with _turn:
            return super().encode(*args, **kwargs)  # type: ignore[misc]


class Argon2(Apart, hashers.Argon2PasswordHasher):
    time_cost, memory_cost, parallelism = 2, 19 * 1024, 1

    def verify(self, password: str, encoded: str) -> bool:
        release_connections()
        with _turn:
            return super().verify(password, encoded)


class PBKDF2(Apart, hashers.PBKDF2PasswordHasher):
    """Of passwords that were set before; the next sign-in hashes them by Argon2."""
