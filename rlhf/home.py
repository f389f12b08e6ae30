"""What an operator has to do about rounds, on the first page of a project."""

from __future__ import annotations

from collections.abc import Iterator

from annotate.models import Project
from annotate.paging import counted
from annotate.views.home import ToDo
from rlhf.data.selection import EVERYTHING, TRAIN, demonstrations, training_rankings
from rlhf.models.runs import Round
from rlhf.rounds.report import report_on


def rounds_in_trouble(project: Project) -> Iterator[ToDo]:
    """Those that wait for somebody to say how they go on."""
    for round in Round.objects.of_project(project).in_trouble().with_runs():
        report = report_on(round)
        state, reason = report.label.lower(), report.current.reason
        yield ToDo("rounds", f"{round} {state}", f"{report.current.get_kind_display()}: {reason}")


def next_round(project: Project) -> Iterator[ToDo]:
    """With the labels that a new round would learn from, as its own page counts them."""
    written, ranked = (
        counted(labels(project, EVERYTHING).in_split(*TRAIN))
        for labels in (demonstrations, training_rankings)
    )
    if "0" not in (written, ranked):
        detail = (
            f"Ready to learn from: {written} demonstration{'' if written == '1' else 's'}"
            f" and {ranked} ranking{'' if ranked == '1' else 's'}."
        )
        yield ToDo("rounds_new", "Launch a round", detail)
