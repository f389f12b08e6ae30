"""Rounds, the runs they are made of, and what came out of whose labels."""

from rlhf.models.checkpoints import Checkpoint
from rlhf.models.machines import Machine
from rlhf.models.metrics import Metric, Sample
from rlhf.models.outcomes import Evaluation, Promotion, RewardModel, Snapshot, TrainedPolicy
from rlhf.models.runs import LeaseLost, Round, Run
from rlhf.models.suites import GateLimits, Suite, SuiteResult

__all__ = [
    "Checkpoint",
    "Evaluation",
    "GateLimits",
    "LeaseLost",
    "Machine",
    "Metric",
    "Promotion",
    "RewardModel",
    "Round",
    "Run",
    "Sample",
    "Snapshot",
    "Suite",
    "SuiteResult",
    "TrainedPolicy",
]
