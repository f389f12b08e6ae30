"""How far a judge is with what it was given."""

from __future__ import annotations

from dataclasses import dataclass

from annotate.judges.models import Judge
from annotate.judges.questions import JudgeQuestion

State = JudgeQuestion.State


@dataclass(frozen=True)
class Progress:
    """Questions by what became of them. `ended`: without a reply."""

    total: int
    replied: int
    open: int
    ended: int
    unreadable: int
    troubles: list[str]

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to ask."""
        return not self.open


def progress_of(judge: Judge) -> Progress:
    counts = judge.questions.counts()
    unreadable = counts.get(State.UNREADABLE, 0)
    waiting = counts.get(State.WAITING, 0) + counts.get(State.ASKING, 0)
    replied = counts.get(State.ANSWERED, 0) + unreadable
    total = sum(counts.values())
    ended = total - waiting - replied
    troubles = judge.questions.troubles() if ended else []
    return Progress(total, replied, waiting, ended, unreadable, troubles)
