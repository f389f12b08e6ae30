"""GRPO: the policy learns as in RLOO; the spread of its answers to a prompt scales what each is
worth, and the KL is part of the loss (Shao et al. 2024)."""

from __future__ import annotations

from rlhf.models.runs import Run
from rlhf.stages.chart import Chart, trained_and_held_out
from rlhf.stages.kinds.ppo import Ppo
from rlhf.stages.kinds.rloo import Rloo


class Grpo(Rloo):
    kind = Run.Kind.GRPO
    hint = "optimises against the reward model by comparing answers to one prompt"
    charts = (
        Chart("GRPO score", "score", trained_and_held_out("objective/scores")),
        *Ppo.charts[1:],
    )


GRPO = Grpo()
