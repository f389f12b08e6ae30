"""PPO: the policy practises on prompts, and the round's reward model says how well it did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from annotate.models import Demonstration, Project
from rlhf.data.resources import Networks
from rlhf.data.selection import HELD_OUT, TRAIN, Filters, demonstrations, prompts
from rlhf.data.snapshot import Frozen, Rows, demonstration_row, prompt_row, with_prompts
from rlhf.models.checkpoints import Checkpoint
from rlhf.models.runs import Run
from rlhf.stages.chart import Chart, Series, trained_and_held_out
from rlhf.stages.training import Training, starting_point
from rlhf.stages.weights import verified, weights_of


class Ppo(Training):
    kind = Run.Kind.PPO
    hint = "practises against the reward model"
    learnt_from = "prompts"
    without_data = "There are no prompts to practise on. Import prompts, then resume the run."
    data_files: tuple[str, ...] = ("train", "test", "demonstrations")
    charts = (
        Chart("PPO score", "score", trained_and_held_out("objective/scores")),
        Chart("KL to the SFT policy", "nats an answer", (Series("KL", "objective/kl"),)),
        Chart("Entropy", "nats a token", (Series("entropy", "policy/entropy"),)),
        Chart("Length", "tokens an answer", (Series("length", "response/length"),)),
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

    def models(self, run: Run) -> dict[str, str]:
        start = weights_of(starting_point(run))
        made = Checkpoint.objects.final().get(run__round=run.round, run__kind=Run.Kind.REWARD)
        return {"policy": start, "reference": start, "reward": verified(made)}

    def steps(self, train: Mapping[str, Any], rows: Rows) -> int | None:
        return int(train["updates"])

    def networks(self, config: Mapping[str, Any]) -> Networks:
        has_critic = config["train"]["critic"] in ("reward", "policy")
        return Networks(learning=1 + has_critic, visiting=True)


PPO = Ppo()
