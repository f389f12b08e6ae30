"""What each kind of run is told, and what it leaves behind when it succeeds.

`prepare` writes the data files and returns the trainer's config; `conclude` runs in the fenced
transaction that ends the run, so a policy appears together with its run's success or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from django.conf import settings

from annotate.labelling.queue import open_rank_tasks
from annotate.models import Completion, Demonstration, Policy, Prompt
from feedback_site import __version__
from rlhf.data.checks import NotReady
from rlhf.data.selection import held_out_prompts, prompts
from rlhf.data.snapshot import data_config, freeze, prompt_row, write
from rlhf.evaluation.next_batch import launch_next_batch, open_next_batch
from rlhf.evaluation.scorecard import grade, launch_scorecard, questions_of
from rlhf.evaluation.win_rate import ask_people, judge
from rlhf.learning.contract.manifest import Corrupt, sha256
from rlhf.models.checkpoints import Checkpoint, ensure_whole
from rlhf.models.leases import Lease
from rlhf.models.outcomes import RewardModel, TrainedPolicy
from rlhf.models.runs import Round, Run
from rlhf.models.suites import Suite

Config = dict[str, Any]
Summary = dict[str, Any]


class NothingToDo(Exception):
    """The run succeeds without a trainer; the message says why."""


class Unusable(Exception):
    """The run cannot start; the message says what to do."""


@dataclass(frozen=True)
class Kind:
    prepare: Callable[[Lease], Config]
    conclude: Callable[[Lease, Summary], Summary]


def prepare(lease: Lease) -> Config:
    """The trainer's config. What it names lies in DATA_DIR by now."""
    config = KINDS[lease.run.kind].prepare(lease)
    return {**config, "seed": lease.run.seed, "code_version": __version__}


def conclude(lease: Lease, outcome: Summary) -> Summary:
    return KINDS[lease.run.kind].conclude(lease, outcome)


# Training


def prepare_training(lease: Lease) -> Config:
    run = lease.run
    freeze(lease)
    data = data_config(f"{run.folder}/data")
    if "train" not in data:
        raise Unusable(WITHOUT_DATA[run.kind])
    if run.kind != Run.Kind.REWARD:
        data.pop("calibration", None)
    return {
        "kind": run.kind,
        "models": _models(run),
        "train": run.config["train"],
        "tune": run.config["tune"],
        "data": data,
    }


WITHOUT_DATA: dict[str, str] = {
    Run.Kind.PRETRAIN: "There are no documents to read. Import some, then resume the run.",
    Run.Kind.SFT: "There are no demonstrations to learn from. Write some, then resume the run.",
    Run.Kind.REWARD: "There are no rankings to learn from. Rank completions, then resume the run.",
    Run.Kind.PPO: "There are no prompts to practise on. Import prompts, then resume the run.",
    Run.Kind.DPO: "There are no rankings to learn from. Rank completions, then resume the run.",
    Run.Kind.KTO: "There are no thumbs to learn from. Let guests chat, then resume the run.",
}


def _models(run: Run) -> dict[str, str]:
    start = weights_of(starting_point(run))
    if run.kind == Run.Kind.PPO:
        reward = _whole(Checkpoint.objects.final().get(run__round=run.round, run__kind="reward"))
        return {"policy": start, "reference": start, "reward": reward}
    return {"policy": start}


def starting_point(run: Run) -> Policy:
    """What the stages before it have made of the round's base, as far as they make policies."""
    round = _round(run)
    made = TrainedPolicy.objects.made_in(round).before(run.position)
    last = made.final().last()
    return last.policy if last else round.base


def conclude_policy(lease: Lease, outcome: Summary) -> Summary:
    """A new policy, a candidate that nobody speaks through yet; and one for each epoch kept."""
    kept = [
        _new_policy(publish_model(lease, epoch=int(epoch), step=step))
        for epoch, step in outcome.get("epochs", {}).items()
    ]
    policy = _new_policy(publish_model(lease))
    return {**outcome, "policy": policy.name, "kept": [each.name for each in kept]}


def _new_policy(checkpoint: Checkpoint) -> Policy:
    run, round, epoch = checkpoint.run, _round(checkpoint.run), checkpoint.epoch
    after = f", after epoch {epoch}" if epoch else ""
    policy = Policy.objects.create(
        project=run.project,
        name=_free_name(round, f"{run.kind}-epoch-{epoch}" if epoch else run.kind),
        description=f"{run.get_kind_display()} of {round}, recipe {round.recipe}{after}",
        origin=Policy.Origin.TRAINED,
        parent=starting_point(run),
        folder=checkpoint.folder,
        temperature=round.base.temperature,
        max_new_tokens=round.base.max_new_tokens,
    )
    TrainedPolicy.objects.create(policy=policy, checkpoint=checkpoint)
    return policy


def conclude_reward_model(lease: Lease, outcome: Summary) -> Summary:
    accuracy = outcome.get("accuracy")
    RewardModel.objects.create(
        project=lease.run.project, checkpoint=publish_model(lease), accuracy=accuracy
    )
    return outcome


def publish_model(lease: Lease, *, epoch: int | None = None, step: int = 0) -> Checkpoint:
    """The final one, or what it was after an epoch, at that step."""
    folder = f"{lease.folder}/{f'epochs/{epoch}' if epoch else 'model'}"
    manifest = settings.DATA_DIR / folder / "manifest.json"
    if not manifest.is_file():
        raise FileNotFoundError(f"the trainer ended well but left no {folder}/manifest.json")
    return Checkpoint.objects.create(
        run=lease.run,
        lease_token=lease.token,
        step=step or Run.objects.get(pk=lease.run.pk).step,
        epoch=epoch,
        folder=folder,
        manifest_sha256=sha256(manifest),
        is_final=True,
    )


def weights_of(policy: Policy) -> str:
    """Its folder; of weights that a run here has published, every hash is verified."""
    made = Checkpoint.objects.behind(policy)
    return _whole(made) if made else policy.folder


def _whole(checkpoint: Checkpoint) -> str:
    try:
        ensure_whole(checkpoint)
    except Corrupt as damage:
        raise Unusable(
            f"The model of {checkpoint.run} is damaged ({damage}). Bring its folder back from a "
            "backup, then resume the run; or launch a round from another policy."
        ) from damage
    return checkpoint.folder


def _free_name(round: Round, kind: str) -> str:
    """r3-ppo; if somebody has given that name away, r3-ppo-2."""
    names = (f"r{round.number}-{kind}" + (f"-{i}" if i > 1 else "") for i in count(1))
    return next(name for name in names if not round.project.policies.filter(name=name).exists())


def _round(run: Run) -> Round:
    assert run.round is not None, f"{run} belongs to no round"
    return run.round


# Sampling


def prepare_sampling(lease: Lease) -> Config:
    run = lease.run
    policies = list(run.project.policies.filter(pk__in=run.config["policies"]).order_by("pk"))
    asked = list(prompts(run.project).filter(pk__in=run.config["prompts"]))
    if not asked:
        raise NothingToDo("All its prompts were archived or taken back meanwhile.")
    config = _sampling(lease, policies, asked, as_configured=True)
    judges = run.project.reward_models.select_related("checkpoint__run")
    return _scored(config, judges.filter(pk=run.config.get("reward_model")).first())


def conclude_sampling(lease: Lease, outcome: Summary) -> Summary:
    """The completions, and the work of ranking them; or else demonstrations made of them."""
    run = lease.run
    completions = store_completions(lease, Completion.Source.SAMPLED)
    if run.config.get("distil"):
        return {**outcome, "completions": len(completions), "distilled": distil(run, completions)}
    if run.config.get("is_comparison"):
        tasks = ask_people(run, prompts_at_most=len(run.config["prompts"]))
        return {**outcome, "completions": len(completions), "rank_tasks": tasks}
    if run.config.get("next_batch"):
        tasks = open_next_batch(run, _rows(lease.path / "completions.jsonl"))
        return {**outcome, "completions": len(completions), "rank_tasks": tasks}
    tasks = open_rank_tasks(
        run.project,
        prompts=prompts(run.project).filter(pk__in={each.prompt_id for each in completions}),
        k=run.project.ranking_size,
        overlap=run.project.overlap,
        batch=f"run {run.pk}",
    )
    return {**outcome, "completions": len(completions), "rank_tasks": tasks}


def distil(run: Run, completions: list[Completion]) -> int:
    """Demonstrations of a labeler who is the policy, and is marked as simulated."""
    policy = run.project.policies.get(pk__in=run.config["policies"])
    labeler = run.project.labeler_named(f"policy {policy.name}", simulated=True)
    whole = [each for each in completions if each.finish_reason == "stop" and each.text.strip()]
    Demonstration.objects.bulk_create(
        Demonstration(
            prompt_id=each.prompt_id,
            labeler=labeler,
            text=each.text,
            distilled_from=policy,
            source=f"distilled by run {run.pk}",
        )
        for each in whole
    )
    return len(whole)


# Evaluation


def prepare_evaluation(lease: Lease) -> Config:
    run, round = lease.run, _round(lease.run)
    held_out = held_out_prompts(run.project, run.config["prompts_at_most"])
    if not held_out:
        raise NothingToDo("No prompt is held out, so there is nothing to compare on.")
    # Equal length limits, or the policy that may say more would win by that.
    config = _sampling(lease, contestants(round), held_out, as_configured=False)
    return _scored(config, RewardModel.objects.judge_of(round))


def _scored(config: Config, judge: RewardModel | None) -> Config:
    """With the score of a reward model beside each answer."""
    if judge is None:
        return config
    return {**config, "models": {**config["models"], "reward": _whole(judge.checkpoint)}}


def contestants(round: Round) -> list[Policy]:
    """What the round made, the newest first, epochs that were kept too; then its base, and the
    live policy where it is another."""
    live = round.project.policies.live().first()
    made = [each.policy for each in TrainedPolicy.objects.made_in(round)]
    policies = [*reversed(made), round.base]
    if live and live.folder and live not in policies:
        policies.append(live)
    return policies


def conclude_evaluation(lease: Lease, outcome: Summary) -> Summary:
    completions = store_completions(lease, Completion.Source.EVALUATION)
    judged = judge(lease.run, contestants(_round(lease.run)), completions)
    wanted = lease.run.config.get("ask_people", 0)
    asked = ask_people(lease.run, prompts_at_most=wanted) if wanted else 0
    _ask_suites(lease.run)
    if next_batch := lease.run.config.get("next_batch", 0):
        _continue_labelling(lease.run, next_batch)
    return {**outcome, **judged, "rank_tasks": asked}


# Behaviour suites


def prepare_scorecard(lease: Lease) -> Config:
    run = lease.run
    policies = run.project.policies.filter(pk__in=run.config["policies"]).order_by("pk")
    config = _asking(lease, list(policies), questions_of(run), as_configured=False)
    for speaker in config["models"]["policies"].values():
        speaker["temperature"] = 0.0
    return config


def conclude_scorecard(lease: Lease, outcome: Summary) -> Summary:
    results = grade(lease, _rows(lease.path / "completions.jsonl"))
    passed = sum(each.passed for each in results)
    return {**outcome, "passed": passed, "probes": sum(each.probes for each in results)}


def _continue_labelling(evaluation: Run, prompts: int) -> None:
    """The round has succeeded even where there is nobody to ask about."""
    with suppress(NotReady):
        launch_next_batch(_round(evaluation), by=evaluation.launched_by, prompts_at_most=prompts)


def _ask_suites(evaluation: Run) -> None:
    """Of the round's policies and the live one, in a run that no stage waits for."""
    project, round = evaluation.project, _round(evaluation)
    if Suite.active_in(project):
        policies = contestants(round)
        launch_scorecard(project, by=evaluation.launched_by, policies=policies)


def _sampling(
    lease: Lease, policies: list[Policy], asked: list[Prompt], *, as_configured: bool
) -> Config:
    rows = [prompt_row(prompt) for prompt in asked]
    return _asking(lease, policies, rows, as_configured=as_configured)


def _asking(
    lease: Lease, policies: list[Policy], rows: list[dict[str, Any]], *, as_configured: bool
) -> Config:
    run = lease.run
    folder = f"{lease.folder}/data"
    write(settings.DATA_DIR / folder, {"train": rows})
    _take_over_answers(lease)
    return {
        "kind": "sample",
        "models": {
            "policies": {
                policy.name: _speaker(policy, with_length=as_configured) for policy in policies
            }
        },
        "train": run.config["train"],
        "data": data_config(folder),
    }


def _take_over_answers(lease: Lease) -> None:
    """What the attempt before was done with; the trainer keeps it if it is told the same."""
    earlier = lease.path.parent / f"t{lease.token - 1}"
    for name in ("completions.jsonl", "completions.told"):
        if (earlier / name).exists():
            shutil.copyfile(earlier / name, lease.path / name)


def _speaker(policy: Policy, *, with_length: bool) -> dict[str, Any]:
    speaker = {
        "path": weights_of(policy),
        "system_prompt": policy.system_prompt,
        "few_shot": policy.few_shot,
        "prompt_format": policy.prompt_format,
        "temperature": policy.temperature,
    }
    return {**speaker, "max_new_tokens": policy.max_new_tokens} if with_length else speaker


SAID = ("index", "temperature", "max_new_tokens")  # the policy's own, where the recipe's give way


def store_completions(lease: Lease, source: str) -> list[Completion]:
    run = lease.run
    policies = {policy.name: policy for policy in run.project.policies.all()}
    completions = [
        Completion(
            prompt_id=int(row["id"]),
            policy=policies[row["policy"]],
            text=row["text"].replace("\x00", ""),
            source=source,
            seed=row.get("seed"),
            sampling={"run": run.pk, **run.config["train"], **{each: row[each] for each in SAID}},
            template_hash=policies[row["policy"]].template_hash,
            finish_reason=row.get("finish_reason", ""),
            score=row.get("score"),
        ).derive()
        for row in _rows(lease.path / "completions.jsonl")
    ]
    return Completion.objects.bulk_create(completions, batch_size=1000)


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


KINDS: dict[str, Kind] = {
    Run.Kind.PRETRAIN: Kind(prepare_training, conclude_policy),
    Run.Kind.SFT: Kind(prepare_training, conclude_policy),
    Run.Kind.REWARD: Kind(prepare_training, conclude_reward_model),
    Run.Kind.PPO: Kind(prepare_training, conclude_policy),
    Run.Kind.DPO: Kind(prepare_training, conclude_policy),
    Run.Kind.KTO: Kind(prepare_training, conclude_policy),
    Run.Kind.SAMPLE: Kind(prepare_sampling, conclude_sampling),
    Run.Kind.EVALUATE: Kind(prepare_evaluation, conclude_evaluation),
    Run.Kind.SCORECARD: Kind(prepare_scorecard, conclude_scorecard),
}
