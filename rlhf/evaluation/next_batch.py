"""What people should rank next: fresh answers to the prompts of which the reward model is least
sure, which train; and to held-out prompts, which compare the policies and train nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from math import ceil
from statistics import fmean
from typing import Any

from annotate.labels.kinds.ranking.tasks import open_rank_tasks
from annotate.models import Completion, Policy, User
from rlhf.data.checks import Finding, NotReady
from rlhf.data.selection import HELD_OUT, TRAIN, prompts
from rlhf.data.staleness import stale_in
from rlhf.learning.contract.config import recipe as recipe_of
from rlhf.models.outcomes import RewardModel, TrainedPolicy
from rlhf.models.runs import Round, Run

POOL = 5  # prompts looked at for each that is chosen
HELD_OUT_SHARE = 4  # one prompt in so many compares the policies


def launch_next_batch(round: Round, *, by: User | None, prompts_at_most: int) -> Run:
    """Samples what the live policy, the challenger, the round's SFT and its newest policy say to
    the prompts ranked least; `open_next_batch` then chooses. A quarter of the batch is held out,
    where there are prompts for it and policies to compare. Raises NotReady."""
    project = round.project
    policies, stale = speakers_after(round), stale_in(project).runs
    judge = RewardModel.objects.judge_of(round, stale_runs=stale)
    # What the reward model doubts most teaches it most, and so may measure nothing. The held-out
    # quarter goes to what was ranked least: a draw by doubt would measure the doubt.
    compared = prompts_at_most // HELD_OUT_SHARE if len(policies) > 1 else 0
    held_out = list(prompts(project).in_split(*HELD_OUT).ranked_least(compared))
    to_train_on = prompts_at_most - len(held_out)
    asked = prompts(project).in_split(*TRAIN).ranked_least(POOL * to_train_on)
    problems = {
        "no_policy": "" if policies else "None of its policies has a model folder.",
        "no_reward_model": "" if judge else "There is no reward model yet.",
        "no_prompts": "" if asked else "There is no prompt to train on.",
    }
    found = [Finding(name, message, is_error=True) for name, message in problems.items() if message]
    if found or judge is None:
        raise NotReady(found)
    k = ceil(project.ranking_size / len(policies))
    config = {
        "policies": [each.pk for each in policies],
        "prompts": [each.pk for each in (*asked, *held_out)],
        "train": {**recipe_of("sample", round.recipe)["train"], "k": k},
        "reward_model": judge.pk,
        "next_batch": to_train_on,
        "held_out": [each.pk for each in held_out],
    }
    return Run.launch(project, kind=Run.Kind.SAMPLE, config=config, by=by)


def speakers_after(round: Round) -> list[Policy]:
    """Returns the policies that people should hear again after a round, each once."""
    made = list(TrainedPolicy.objects.made_in(round).final())
    sft = [each for each in made if each.checkpoint.run.kind == Run.Kind.SFT]
    policies = round.project.policies
    trained = [each.policy for each in (*made[-1:], *sft)]
    chosen = [*trained, *policies.live(), *policies.challenger()]
    return [each for each in dict.fromkeys(chosen) if each.folder]


def open_next_batch(run: Run, rows: Iterable[dict[str, Any]]) -> int:
    """Opens ranking tasks of the least certain prompts, and of the held-out ones, before other
    work. Returns how many."""
    held_out = set(run.config.get("held_out", ()))
    to_train_on = (row for row in rows if int(row["id"]) not in held_out)
    chosen = unsure_of(to_train_on, run.config["next_batch"])
    batch = f"next batch {run.pk}"
    return _open(run, batch, chosen) + _open(run, f"{batch}, held out", held_out)


def _open(run: Run, batch: str, chosen: Collection[int]) -> int:
    return open_rank_tasks(
        run.project,
        prompts=prompts(run.project).filter(pk__in=chosen),
        k=run.project.ranking_size,
        overlap=run.project.overlap,
        batch=batch,
        among=Completion.objects.sampled_by(run.pk),
        priority=1,
    )


def unsure_of(rows: Iterable[dict[str, Any]], count: int) -> list[int]:
    """Prompts whose answers the heads of the reward model score most differently; where it has one
    head only, those whose answers it can hardly tell apart."""
    by_prompt: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_prompt[int(row["id"])].append(row)

    def doubt(said: list[dict[str, Any]]) -> tuple[float, float]:
        scores = [row["score"] for row in said]
        apart = fmean(row.get("disagreement") or 0.0 for row in said)
        return apart, min(scores) - max(scores)

    order = sorted(by_prompt, key=lambda prompt: doubt(by_prompt[prompt]), reverse=True)
    return order[:count]
