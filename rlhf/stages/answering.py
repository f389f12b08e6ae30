"""Stages that let policies answer prompts: what a sampler is told, and keeping what was said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from django.conf import settings

from annotate.documents.consulting import consulted
from annotate.models import Completion, Policy
from annotate.prompts.passages import Read, block
from rlhf.data.snapshot import Rows, data_config, write
from rlhf.evaluation import elsewhere
from rlhf.models.leases import Lease
from rlhf.models.outcomes import RewardModel
from rlhf.models.runs import Run
from rlhf.stages.stage import Config, Stage, Unusable
from rlhf.stages.weights import verified, weights_of

# What one policy was sampled with, where the recipe's values give way to its own.
OF_THE_POLICY = ("index", "temperature", "max_new_tokens", "provider", "model")


class Answering(Stage):
    """A stage in which policies answer prompts, and nothing learns."""

    def about(self, run: Run) -> str:
        """Says who answers what."""
        prompts, k = len(run.config.get("prompts", [])), run.config.get("train", {}).get("k", 1)
        answers = f"{k} answers" if k > 1 else "one answer"
        return f"{speakers(run)} · {answers} to each of {prompts} prompts"

    def needs_trainer(self, config: Config) -> bool:
        return bool(config["models"]["policies"])

    def ask_others(self, lease: Lease, *, is_over: Callable[[], bool]) -> bool:
        try:
            return elsewhere.ask(lease, is_over=is_over)
        except elsewhere.NoAnswers as reason:
            raise Unusable(str(reason)) from reason


def speakers(run: Run) -> str:
    """Names the policies that answer in `run`, separated by commas."""
    policies = run.project.policies.filter(pk__in=run.config.get("policies", []))
    return ", ".join(policies.order_by("pk").values_list("name", flat=True))


def sampler_config(
    lease: Lease,
    policies: list[Policy],
    rows: Rows,
    *,
    own_lengths: bool,
    temperature: float | None = None,
) -> Config:
    """Writes the prompts' rows and returns the config of a sampler for the policies that have
    weights; the others are asked without it. `own_lengths`: each policy may say as much as it is
    configured to; else all as much as the run says. `temperature`: of all, instead of their own."""
    run = lease.run
    others = [each for each in policies if not each.folder]
    elsewhere.tell(lease, others, rows, temperature=temperature, own_lengths=own_lengths)
    folder = f"{lease.folder}/data"
    rows = [_with_passages(row, policies) for row in rows]
    write(settings.DATA_DIR / folder, {"train": rows})
    _take_over_answers(lease)
    return {
        "kind": "sample",
        "models": {
            "policies": {
                policy.name: _speaker(policy, temperature, with_length=own_lengths)
                for policy in policies
                if policy.folder
            }
        },
        "train": run.config["train"],
        "data": data_config(folder),
    }


def _with_passages(row: dict[str, Any], policies: list[Policy]) -> dict[str, Any]:
    """Adds what each policy with weights reads before it answers: `reads`, the text that stands
    before its question, and `passages`, to be kept with its answer."""
    passages = {each.name: consulted(each, row["prompt"]) for each in policies if each.folder}
    passages = {name: read for name, read in passages.items() if read}
    if not passages:
        return row
    reads = {name: block(read) for name, read in passages.items()}
    return {**row, "reads": reads, "passages": passages}


def scored_by(judge: RewardModel | None, config: Config) -> Config:
    """Adds to a sampler's config a reward model, whose score then stands beside each answer."""
    if judge is None:
        return config
    return {**config, "models": {**config["models"], "reward": verified(judge.checkpoint)}}


def _take_over_answers(lease: Lease) -> None:
    """What the attempt before was done with; the trainer keeps it if it is told the same."""
    earlier = lease.path.parent / f"t{lease.token - 1}"
    for name in ("completions.jsonl", "completions.told", elsewhere.ANSWERS):
        if (earlier / name).exists():
            shutil.copyfile(earlier / name, lease.path / name)


def _speaker(policy: Policy, temperature: float | None, *, with_length: bool) -> dict[str, Any]:
    speaker = {
        "path": weights_of(policy),
        "system_prompt": policy.system_prompt,
        "few_shot": policy.few_shot,
        "prompt_format": policy.prompt_format,
        "temperature": policy.temperature if temperature is None else temperature,
    }
    return {**speaker, "max_new_tokens": policy.max_new_tokens} if with_length else speaker


def store_completions(lease: Lease, source: str) -> list[Completion]:
    """Stores the answers of the run."""
    run = lease.run
    policies = {policy.name: policy for policy in run.project.policies.all()}
    read = _passages_in(lease.path)
    completions = [
        Completion(
            prompt_id=int(row["id"]),
            policy=policies[row["policy"]],
            text=row["text"].replace("\x00", ""),
            source=source,
            seed=row.get("seed"),
            sampling={
                "run": run.pk,
                **run.config["train"],
                **{name: row[name] for name in OF_THE_POLICY if name in row},
            },
            template_hash=policies[row["policy"]].template_hash,
            passages=row.get("passages") or read.get((row["policy"], str(row["id"])), []),
            finish_reason=row.get("finish_reason", ""),
            score=row.get("score"),
        ).derive()
        for row in answers_in(lease.path)
    ]
    return Completion.objects.bulk_create(completions, batch_size=1000)


def _passages_in(folder: Path) -> dict[tuple[str, str], list[Read]]:
    """(policy, prompt) → what the policy with weights read before it answered."""
    return {
        (name, str(row["id"])): read
        for row in elsewhere.rows_in(folder / "data" / "train.jsonl")
        for name, read in row.get("passages", {}).items()
    }


def answers_in(folder: Path) -> Iterator[dict[str, Any]]:
    """Reads what the policies of a run folder said, those with weights first."""
    for name in ("completions.jsonl", elsewhere.ANSWERS):
        if (folder / name).exists():
            with (folder / name).open(encoding="utf-8") as lines:
                yield from map(json.loads, lines)
