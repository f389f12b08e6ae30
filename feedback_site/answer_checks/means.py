"""The answer means what the reference means, as an embedding model sees it. It is asked by whoever
has the model; the check itself says what passes."""

from __future__ import annotations

from .check import CheckError, ReferenceCheck


class Means(ReferenceCheck):
    name = "means"
    setting = "0.8"
    rests_on = "the embedding model of a project"
    asks_a_model = True
    meaning = (
        "means the same as the reference: the cosine of their vectors, by the embedding model"
        " chosen on Documents, is at least the setting; without a setting the score is the cosine"
    )

    def __init__(self, setting: str = "") -> None:
        super().__init__(setting)
        try:
            self.least = float(setting) if setting.strip() else None
        except ValueError:
            self.least = -1.0
        if self.least is not None and not 0 < self.least <= 1:
            raise CheckError(f"means({setting}): write a cosine above 0, e.g. means(0.8)")

    def passes(self, completion: str, reference: str) -> bool:
        return False  # without vectors nothing passes

    def score_of(self, cosine: float) -> float:
        """How well an answer passes whose vector has this cosine, -1 to 1, with the reference's."""
        return max(0.0, min(1.0, cosine)) if self.least is None else float(cosine >= self.least)
