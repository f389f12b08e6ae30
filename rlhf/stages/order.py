"""The trainings a round may be made of. Each starts from what the one before it made."""

from __future__ import annotations

from collections.abc import Iterable

from rlhf.models.runs import Run

STAGES = (
    Run.Kind.PRETRAIN,
    Run.Kind.SFT,
    Run.Kind.REWARD,
    Run.Kind.PPO,
    Run.Kind.DPO,
    Run.Kind.KTO,
)
DEFAULT_STAGES = (Run.Kind.SFT, Run.Kind.REWARD, Run.Kind.PPO)
POLICY_MAKERS = tuple(kind for kind in STAGES if kind != Run.Kind.REWARD)
BY_RANKINGS = (Run.Kind.REWARD, Run.Kind.DPO)


def in_order(stages: Iterable[str]) -> list[str]:
    chosen = set(stages)
    return [kind for kind in STAGES if kind in chosen]
