"""A model says whether the answer passes, by a rubric. It is asked by whoever has the models; the
check itself says who is asked, and what passes."""

from __future__ import annotations

from collections.abc import Sequence

from .check import Check, CheckError

LEAST_RATING = 5  # of 1 to 7


class Judged(Check):
    name = "judge"
    setting = "name of the judge, 5"
    needs_setting = True
    rests_on = "the verdict of a model"
    asks_a_model = True
    meaning = (
        "a judge of the project says yes; or rates it 5 or more of 7, or what the setting says; or "
        "prefers it to the reference in both orders"
    )

    def __init__(self, setting: str = "") -> None:
        super().__init__(setting)
        judge, _, least = setting.partition(",")
        self.judge = judge.strip()
        least = least.strip() or str(LEAST_RATING)
        if not self.judge or least not in tuple("1234567"):
            raise CheckError(f"judge({setting}): write the name of a judge, and a rating of 1 to 7")
        self.least_rating = int(least)

    def passes(self, completion: str, reference: str) -> bool:
        return False  # without a verdict nothing passes

    def score_of(self, verdicts: Sequence[str]) -> float:
        """How well the answer passes by these verdicts: yes or no, a rating, or which of two was
        better where the answer was shown first, and where it was shown second."""
        if not verdicts:
            return 0.0
        if len(verdicts) == 2:
            return ((verdicts[0] == "A") + (verdicts[1] == "B")) / 2
        [said] = verdicts
        return float(int(said) >= self.least_rating) if said.isdecimal() else float(said == "yes")
