"""The stages: every kind of run, each in a file of its own. To add one, write its file, name it
here, and add its kind to `Run.Kind`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from django.utils.timezone import localdate

from feedback_site import __version__
from rlhf.models.leases import Lease
from rlhf.models.runs import Run
from rlhf.stages.kinds.dpo import DPO
from rlhf.stages.kinds.evaluate import EVALUATE
from rlhf.stages.kinds.fetch import FETCH
from rlhf.stages.kinds.grpo import GRPO
from rlhf.stages.kinds.kto import KTO
from rlhf.stages.kinds.ppo import PPO
from rlhf.stages.kinds.pretrain import PRETRAIN
from rlhf.stages.kinds.raft import RAFT
from rlhf.stages.kinds.reward import REWARD
from rlhf.stages.kinds.rloo import RLOO
from rlhf.stages.kinds.sample import SAMPLE
from rlhf.stages.kinds.scorecard import SCORECARD
from rlhf.stages.kinds.sft import SFT
from rlhf.stages.stage import Config, Stage, Summary
from rlhf.stages.training import Training

# Kind → stage; the trainings in the order in which a round goes through them.
STAGES: dict[str, Stage] = {
    stage.kind: stage
    for stage in (
        *(PRETRAIN, SFT, REWARD, PPO, RLOO, GRPO, RAFT, DPO, KTO),
        *(EVALUATE, SAMPLE, SCORECARD, FETCH),
    )
}
TRAININGS = {kind: stage for kind, stage in STAGES.items() if isinstance(stage, Training)}
DEFAULT_TRAININGS = (Run.Kind.SFT, Run.Kind.REWARD, Run.Kind.PPO)  # as in InstructGPT


def prepare(lease: Lease) -> Config:
    """Writes the data of a claimed run and returns the trainer's config: all that it names lies in
    DATA_DIR by then. Raises KeyError for a kind that is no stage."""
    config = STAGES[lease.run.kind].prepare(lease)
    day = localdate(lease.run.created_at).isoformat()
    return {**config, "seed": lease.run.seed, "day": day, "code_version": __version__}


def needs_trainer(lease: Lease, config: Config) -> bool:
    """Whether the run has anything for a trainer to do. Raises KeyError for a kind that is no
    stage."""
    return STAGES[lease.run.kind].needs_trainer(config)


def ask_others(lease: Lease, *, is_over: Callable[[], bool]) -> bool:
    """Does what the run asks of other servers; False: `is_over` came first. Raises Unusable, and
    KeyError for a kind that is no stage."""
    return STAGES[lease.run.kind].ask_others(lease, is_over=is_over)


def examine(lease: Lease, outcome: Summary) -> Summary:
    """Does what takes time with what a trainer has left behind, before anything is locked. Raises
    KeyError for a kind that is no stage."""
    return STAGES[lease.run.kind].examine(lease, outcome)


def conclude(lease: Lease, outcome: Summary) -> Summary:
    """Stores what a trainer has left behind and returns the run's summary. `outcome`: the trainer's
    outcome.json. Raises KeyError for a kind that is no stage."""
    return STAGES[lease.run.kind].conclude(lease, outcome)


def in_order(kinds: Iterable[str]) -> list[str]:
    """Sorts kinds of trainings as a round goes through them. Raises ValueError for another kind."""
    chosen = set(kinds)
    if unknown := chosen - set(TRAININGS):
        raise ValueError(
            f"no stage of a round: {', '.join(sorted(unknown))}; known are {', '.join(TRAININGS)}"
        )
    return [kind for kind in TRAININGS if kind in chosen]
