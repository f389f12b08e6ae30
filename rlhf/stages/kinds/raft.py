"""RAFT: the policy learns the best of its own answers to each prompt (Dong et al. 2023), as
Llama 2 did by rejection sampling."""

from __future__ import annotations

from rlhf.models.runs import Run
from rlhf.stages.chart import Chart, trained_and_held_out
from rlhf.stages.kinds.ppo import Ppo
from rlhf.stages.kinds.rloo import Rloo


class Raft(Rloo):
    kind = Run.Kind.RAFT
    hint = "learns the best of its own answers, as the reward model ranks them"
    charts = (
        Chart("RAFT score", "score", trained_and_held_out("objective/scores")),
        *Ppo.charts[1:],
    )


RAFT = Raft()
