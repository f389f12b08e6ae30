"""Evaluation: what a round made answers held-out prompts beside its base and the live policy."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from annotate.models import Completion, Policy
from rlhf.data.checks import NotReady
from rlhf.data.selection import held_out_prompts
from rlhf.data.snapshot import prompt_row
from rlhf.data.staleness import stale_in
from rlhf.evaluation.next_batch import launch_next_batch
from rlhf.evaluation.scorecard import launch_scorecard
from rlhf.evaluation.win_rate import ask_people, judge
from rlhf.learning.contract.config import recipe as recipe_of
from rlhf.models.leases import Lease
from rlhf.models.outcomes import RewardModel, TrainedPolicy
from rlhf.models.runs import Round, Run
from rlhf.models.suites import Suite
from rlhf.stages.answering import Answering, sampler_config, scored_by, store_completions
from rlhf.stages.stage import Config, NothingToDo, Summary, round_of

K = 2  # answers of each policy to a prompt
PROMPTS = {"tiny": 200, "small": 32, "large": 200}


class Evaluate(Answering):
    kind = Run.Kind.EVALUATE

    def config(self, size: str, newest: dict[str, Any]) -> Config:
        """Returns what a round's evaluation is told. All contestants may say as much as the newest
        of them was trained to, if it was trained to speak. `newest`: its `train` fields."""
        train = recipe_of("sample", size)["train"]
        length = newest.get("max_new_tokens", train["max_new_tokens"])
        return {
            "train": {**train, "k": K, "max_new_tokens": length},
            "prompts_at_most": PROMPTS[size],
        }

    def prepare(self, lease: Lease) -> Config:
        run, round = lease.run, round_of(lease.run)
        held_out = held_out_prompts(run.project, run.config["prompts_at_most"])
        if not held_out:
            raise NothingToDo("No prompt is held out, so there is nothing to compare on.")
        # Equal length limits, or the policy that may say more would win by that.
        rows = [prompt_row(prompt) for prompt in held_out]
        config = sampler_config(lease, contestants(round), rows, own_lengths=False)
        judge = RewardModel.objects.judge_of(round, stale_runs=stale_in(run.project).runs)
        return scored_by(judge, config)

    def conclude(self, lease: Lease, outcome: Summary) -> Summary:
        """Stores answers and win rates, and launches what was asked for afterwards."""
        run = lease.run
        completions = store_completions(lease, Completion.Source.EVALUATION)
        told = json.loads((lease.path / "config.json").read_text())["models"]
        judged_by = RewardModel.objects.in_folder(run.project, told.get("reward", ""))
        policies = contestants(round_of(run))
        judged = judge(run, policies, completions, reward_model=judged_by)
        wanted = run.config.get("ask_people", 0)
        asked = ask_people(run, prompts_at_most=wanted) if wanted else 0
        _ask_suites(run)
        if next_batch := run.config.get("next_batch", 0):
            _continue_labelling(run, next_batch)
        return {**outcome, **judged, "rank_tasks": asked}


def contestants(round: Round) -> list[Policy]:
    """Returns what the round made, the newest first, epochs that were kept too; then its base, and
    the live policy where it is another."""
    live = round.project.policies.live().first()
    made = [each.policy for each in TrainedPolicy.objects.made_in(round)]
    policies = [*reversed(made), round.base]
    if live and live.folder and live not in policies:
        policies.append(live)
    return policies


def _continue_labelling(evaluation: Run, prompts: int) -> None:
    """The round has succeeded even where there is nobody to ask about."""
    with suppress(NotReady):
        launch_next_batch(round_of(evaluation), by=evaluation.launched_by, prompts_at_most=prompts)


def _ask_suites(evaluation: Run) -> None:
    """Of the round's policies and the live one, in a run that no stage waits for."""
    project, round = evaluation.project, round_of(evaluation)
    if Suite.active_in(project):
        policies = contestants(round)
        launch_scorecard(project, by=evaluation.launched_by, policies=policies)


EVALUATE = Evaluate()
