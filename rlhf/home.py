"""What an operator has to do about rounds, on the first page of a project."""

from __future__ import annotations

from collections.abc import Iterator

from annotate.models import Project
from annotate.paging import counted
from annotate.views.home import ToDo
from rlhf.data.selection import EVERYTHING, TRAIN, demonstrations, training_rankings


def next_round(project: Project) -> Iterator[ToDo]:
    """With the labels that a new round would learn from, as its own page counts them."""
    written, ranked = (
        counted(labels(project, EVERYTHING).in_split(*TRAIN))
        for labels in (demonstrations, training_rankings)
    )
    if "0" not in (written, ranked):
        detail = f"{written} demonstrations and {ranked} rankings are available to learn from."
        yield ToDo("rounds_new", "Launch a round", detail)
