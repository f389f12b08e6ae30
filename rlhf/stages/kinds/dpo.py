"""DPO: the policy learns from rankings directly, without a reward model (Rafailov et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from annotate.models import Project
from rlhf.data.checks import check_rankings
from rlhf.data.selection import Filters
from rlhf.data.snapshot import Frozen, Rows, compared_answers, freeze_rankings
from rlhf.models.runs import Run
from rlhf.stages.chart import ACCURACY, COMPARISONS, Chart, Series
from rlhf.stages.training import Training


class Dpo(Training):
    kind = Run.Kind.DPO
    hint = "learns from rankings without a reward model"
    learnt_from = "rankings"
    counted = ("rankings",)
    without_data = "There are no rankings to learn from. Rank completions, then resume the run."
    data_files = ("train", "test", "held_out_labelers")
    label_checks = (check_rankings,)
    reads_rankings = True
    charts = (
        Chart("DPO accuracy", COMPARISONS, ACCURACY),
        Chart("DPO loss", "nats per comparison", (Series("training", "loss"),)),
    )

    def collect(self, project: Project, filters: Filters, *, train: Mapping[str, Any]) -> Frozen:
        return freeze_rankings(project, filters)

    def examples(self, rows: Rows) -> int:
        return compared_answers(rows)


DPO = Dpo()
