"""Whether the audit log is as it was written.

Each entry has `hash = sha256(previous || content)`, where `previous` is the hash of the entry
before it and `content` a JSON array of its other columns as PostgreSQL prints it. Changing,
taking out or putting in an entry breaks the chain there. Cutting off its end does not: for that,
keep the head that was printed before somewhere else, and give it with the next check."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

from django.db import connection, transaction

CONTENT = """
jsonb_build_array(number, (extract(epoch FROM at) * 1000000)::bigint, action, actor_id, project_id,
    about, details, request_id)::text
"""
AT_ONCE = 2000


class Head(NamedTuple):
    """An entry, by number and hash. 0 and "" stand for the beginning."""

    number: int
    hash: str

    def __str__(self) -> str:
        return f"{self.number}:{self.hash}"

    @classmethod
    def read(cls, said: str) -> Head:
        """Raises ValueError for what is not NUMBER:HASH."""
        number, colon, digest = said.partition(":")
        if not colon or len(digest) != 64:
            raise ValueError(f"{said} is not NUMBER:HASH.")
        return cls(int(number), digest)


class Broken(Exception):
    """The sentence names the first entry that is not as it was written."""


def verify(*, known: Head | None = None) -> Head:
    """Follows the chain from its beginning; returns where it ends. Raises Broken, also where the
    entry `known` from an earlier check is another one now, or gone."""
    before = Head(0, "")
    for number, previous, digest, content in _entries():
        if number != before.number + 1:
            raise Broken(f"Entry {before.number + 1} is missing.")
        if previous != before.hash:
            raise Broken(f"Entry {number} does not follow from entry {before.number}.")
        if digest != hashlib.sha256((previous + content).encode()).hexdigest():
            raise Broken(f"Entry {number} was changed.")
        if known and number == known.number and digest != known.hash:
            raise Broken(f"Entry {number} is another one than at the earlier check.")
        before = Head(number, digest)
    if known and known.number > before.number:
        raise Broken(f"Entry {before.number + 1} is missing: the log ended with {known.number}.")
    return before


def _entries() -> Iterator[tuple[int, str, str, str]]:
    query = f"SELECT number, previous, hash, {CONTENT} FROM annotate_auditentry ORDER BY number"
    with transaction.atomic(), connection.chunked_cursor() as cursor:
        cursor.execute(query)
        while rows := cursor.fetchmany(AT_ONCE):
            yield from rows
