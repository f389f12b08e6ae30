"""What awaits a person in a project: the first thing they see."""

from __future__ import annotations

from dataclasses import dataclass

from annotate.models import Membership


@dataclass(frozen=True)
class ToDo:
    url_name: str
    title: str
    detail: str


def to_do(membership: Membership) -> list[ToDo]:
    return []
