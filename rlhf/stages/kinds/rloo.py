"""RLOO: the policy learns as in PPO; the mean of its other answers stands in for a critic
(Ahmadian et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlhf.data.resources import Networks
from rlhf.models.runs import Run
from rlhf.stages.chart import Chart, trained_and_held_out
from rlhf.stages.kinds.ppo import Ppo


class Rloo(Ppo):
    kind = Run.Kind.RLOO
    hint = "optimises against the reward model without a critic"
    data_files = ("train", "test")
    charts = (
        Chart("RLOO score", "score", trained_and_held_out("objective/scores")),
        *Ppo.charts[1:],
    )

    def networks(self, config: Mapping[str, Any]) -> Networks:
        return Networks(visiting=True)


RLOO = Rloo()
