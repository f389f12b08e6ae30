"""Seeds of everything random: each follows from named parts, so no generator has a state that a
checkpoint could forget."""

from __future__ import annotations

import hashlib


def derive(*parts: object) -> int:
    """Seed in [0, 2**31) that follows from the named parts alone, by SHA-256 of their text."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4]) >> 1
