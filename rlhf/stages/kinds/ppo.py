"""PPO: the policy practises on prompts, and the round's reward model says how well it did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings

from annotate.models import Demonstration, Project
from feedback_site.answer_checks.written import read_checks
from rlhf.data.resources import Networks
from rlhf.data.selection import HELD_OUT, TRAIN, Filters, demonstrations, prompts
from rlhf.data.snapshot import Frozen, Rows, demonstration_row, prompt_row, with_prompts
from rlhf.models.leases import Lease
from rlhf.models.outcomes import RewardModel
from rlhf.models.runs import Run
from rlhf.stages.chart import Chart, Series, trained_and_held_out
from rlhf.stages.stage import Config, Unusable, round_of
from rlhf.stages.training import Training, starting_point
from rlhf.stages.weights import verified, weights_of

NOT_ALLOWED = (
    "{server} is no server that may answer: the setting INFERENCE_ENDPOINTS names those that may."
)
OF_A_SERVER = (
    Chart(
        "vLLM against the trainer",
        "nats per token",
        (
            Series("mean KL", "engine/mismatch_kl"),
            Series("largest difference", "engine/mismatch_max"),
        ),
    ),
    Chart("Age of the answering weights", "steps", (Series("staleness", "engine/staleness"),)),
)


def may_answer(server: str) -> bool:
    """Whether the operator of the site allows runs to have prompts answered at that address."""
    allowed = (each.removesuffix("/v1") for each in settings.INFERENCE_ENDPOINTS)
    return server.rstrip("/").removesuffix("/v1") in allowed


class Ppo(Training):
    kind = Run.Kind.PPO
    hint = "optimises against the reward model"
    learnt_from = "prompts"
    counted = ("prompts",)
    without_data = "There are no prompts to train on. Import prompts, then resume the run."
    data_files: tuple[str, ...] = ("train", "test", "demonstrations")
    charts = (
        Chart("PPO score", "score", trained_and_held_out("objective/scores")),
        Chart("KL to the SFT policy", "nats per answer", (Series("KL", "objective/kl"),)),
        Chart("Entropy", "nats per token", (Series("entropy", "policy/entropy"),)),
        Chart("Length", "tokens per answer", (Series("length", "response/length"),)),
    )

    def collect(self, project: Project, filters: Filters, *, train: Mapping[str, Any]) -> Frozen:
        """Reads the prompts; and demonstrations, if its loss has a part for them (PPO-ptx)."""
        to_learn = list(prompts(project, filters).in_split(*TRAIN))
        test = list(prompts(project, filters).in_split(*HELD_OUT))
        shown: list[Demonstration] = []
        if train.get("ptx_weight"):
            shown = with_prompts(demonstrations(project, filters).in_split(*TRAIN))
        return Frozen(
            files={
                "train": [prompt_row(each) for each in to_learn],
                "test": [prompt_row(each) for each in test],
                "demonstrations": [demonstration_row(each) for each in shown],
            },
            demonstrations=shown,
            prompts=[*to_learn, *test],
        )

    def prepare(self, lease: Lease) -> Config:
        server = lease.run.config["train"].get("vllm_server", "")
        if server and not may_answer(server):
            raise Unusable(NOT_ALLOWED.format(server=server))
        return super().prepare(lease)

    def models(self, run: Run) -> dict[str, str]:
        start = weights_of(starting_point(run))
        models = {"policy": start, "reference": start}
        if run.config["train"].get("checks") and not _has_reward_model(run):
            return models
        teacher = RewardModel.objects.teacher_of(run.round)
        if teacher is None:
            raise Unusable("The round has no reward model to learn from. Launch another round.")
        return {**models, "reward": verified(teacher.checkpoint)}

    def charts_of(self, run: Run) -> tuple[Chart, ...]:
        """Draws each part of the score by itself where there are several, and how far another
        server's answers are from the policy in training."""
        train = run.config.get("train", {})
        rest = (*self.charts[1:], *(OF_A_SERVER if train.get("vllm_server") else ()))
        checks = read_checks(train.get("checks", ""))
        if not checks:
            return (self.charts[0], *rest)
        model = (Series("reward model", "reward/model"),) if _has_reward_model(run) else ()
        parts = (*model, *(Series(each.name, f"reward/{each.name}") for each in checks))
        return (self.charts[0], Chart("Score by part", "before weights", parts), *rest)

    def steps(self, train: Mapping[str, Any], rows: Rows) -> int | None:
        return int(train["updates"])

    def rows_seen(self, train: Mapping[str, Any], rows: int) -> float:
        return float(train["updates"] * train["batch_size"])

    def networks(self, config: Mapping[str, Any]) -> Networks:
        has_critic = config["train"]["critic"] in ("reward", "policy")
        return Networks(learning=1 + has_critic, visiting=True)


def _has_reward_model(run: Run) -> bool:
    """Whether the run's round makes one, or was launched with one; if not, checks alone say how
    well it did."""
    round = round_of(run)
    makes_one = round.runs.filter(kind=Run.Kind.REWARD)
    return round.reward_model_id is not None or makes_one.exists()


PPO = Ppo()
