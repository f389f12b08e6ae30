"""The reward model: learns from rankings to score a completion as people would."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from annotate.labels.agreement import Share, agreement
from annotate.models import Project, Prompt
from annotate.quality.labelers import newest_doubly_ranked
from annotate.templatetags.show import interval
from rlhf.data.checks import check_rankings
from rlhf.data.selection import Filters, demonstrations
from rlhf.data.snapshot import (
    Frozen,
    Rows,
    compared_answers,
    demonstration_row,
    freeze_rankings,
    with_prompts,
)
from rlhf.models.leases import Lease
from rlhf.models.outcomes import RewardModel, snapshot_of
from rlhf.models.runs import Run
from rlhf.stages.chart import ACCURACY, COMPARISONS, Chart, Level, Series
from rlhf.stages.stage import Summary
from rlhf.stages.training import Training
from rlhf.stages.weights import publish_model


class Reward(Training):
    kind = Run.Kind.REWARD
    hint = "learns what people prefer, from rankings"
    learnt_from = "rankings"
    counted = ("rankings",)
    without_data = "There are no rankings to learn from. Rank completions, then resume the run."
    data_files = ("train", "test", "held_out_labelers", "calibration")
    label_checks = (check_rankings,)
    makes_policy = False
    reads_rankings = True
    charts = (
        Chart(
            "Reward model accuracy",
            COMPARISONS,
            (*ACCURACY, Series("held-out labelers", "reward/accuracy", "labelers")),
        ),
    )

    def collect(self, project: Project, filters: Filters, *, train: Mapping[str, Any]) -> Frozen:
        """Reads the rankings; and demonstrations, whose mean score becomes 0."""
        frozen = freeze_rankings(project, filters)
        not_test = (Prompt.Split.TRAIN, Prompt.Split.VALIDATION)
        calibration = with_prompts(demonstrations(project, filters).in_split(*not_test))
        frozen.files["calibration"] = [demonstration_row(each) for each in calibration]
        frozen.demonstrations += calibration
        return frozen

    def examples(self, rows: Rows) -> int:
        return compared_answers(rows)

    def conclude(self, lease: Lease, outcome: Summary) -> Summary:
        """Makes a reward model."""
        RewardModel.objects.create(
            project=lease.run.project,
            checkpoint=publish_model(lease),
            accuracy=outcome.get("accuracy"),
        )
        return outcome

    def levels(self, run: Run) -> list[Level]:
        """Returns how often people agree with each other: a reward model that agrees with them more
        often has probably seen the answers."""
        snapshot = snapshot_of(run)
        if snapshot is None or snapshot.agreement is None:
            return []
        now = agreement(newest_doubly_ranked(snapshot.rankings.all())).share
        return [Level(f"people {_certainty(now, snapshot.agreement)}", snapshot.agreement)]


def _certainty(now: Share | None, then: float) -> str:
    """The interval of an agreement and its comparisons; none, if rankings have gone since and those
    that are left say otherwise."""
    if now is None:
        return interval(None, None)
    low, high = (round(end, 4) for end in now.interval)
    if not low <= then <= high:
        return interval(None, None)
    return f"{interval(low, high)} of {now.trials:.0f}"


REWARD = Reward()
