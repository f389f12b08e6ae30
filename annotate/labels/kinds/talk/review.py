"""A talk replayed, and what a reviewer decides of it as one."""

from __future__ import annotations

from typing import Any

from annotate.labels.kinds.talk.turns import TalkPlan
from annotate.labels.review_forms import ReviewForm


class TalkReviewForm(ReviewForm):
    """Accept, send back, exclude: nobody can hold somebody else's talk."""

    def clean(self) -> dict[str, Any]:
        said = super().clean()
        if self._act()[0] == "own":
            self.add_error("verdict", "Accept the talk, send it back, or exclude it.")
        return said

    def page(self) -> dict[str, Any]:
        subject = self.assignment.task.subject
        return {"plan": TalkPlan.of(subject)} if subject else {}
