"""Is there enough, and good enough, to learn from? Asked before a round is launched.

An error stops the launch; a warning is shown and lets it pass. Each has a name and says what to
do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from annotate.models import Policy, Project
from rlhf.data.checks import (
    Finding,
    check_base,
    check_duplicates,
    check_labelers,
    check_leaks,
    check_lengths,
    check_rankings,
)
from rlhf.data.counts import Tally, count, tally_of
from rlhf.data.resources import check_room, context_of
from rlhf.data.selection import (
    EVERYTHING,
    TRAIN,
    Filters,
    all_demonstrations,
    demonstrations,
    prompts,
    thumbs_to_look_at,
)
from rlhf.models.runs import Run
from rlhf.stages.order import BY_RANKINGS, DEFAULT_STAGES

FEW_DEMONSTRATIONS, FEW_RANKINGS = 10, 10

Configs = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Preflight:
    counts: dict[str, int]
    findings: list[Finding]

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.is_error]

    @property
    def warnings(self) -> list[Finding]:
        return [finding for finding in self.findings if not finding.is_error]


def preflight(
    project: Project,
    base: Policy | None,
    filters: Filters = EVERYTHING,
    *,
    stages: Sequence[str] = DEFAULT_STAGES,
    configs: Configs | None = None,
) -> Preflight:
    """Only what these stages learn from is looked at. `configs`: kind → what its run would be told;
    with it, the room it takes is estimated."""
    tally = tally_of(project, filters)
    counts = count(project, filters, tally)
    findings = [*check_base(base), *_check_stages(stages)]
    if base and not findings:
        findings += _check_base_against(project, base, filters, configs or {})
    findings += _check_modes(configs or {})
    if Run.Kind.PRETRAIN in stages:
        findings += _check_documents(counts["documents"])
    if Run.Kind.SFT in stages:
        findings += _demonstration_findings(project, filters)
    if set(stages) & set(BY_RANKINGS):
        findings += _ranking_findings(tally)
    if Run.Kind.KTO in stages:
        findings += _check_thumbs(counts["thumbs_up"], counts["thumbs_down"])
        findings += _check_newcomers(thumbs_to_look_at(project, filters).count())
    findings += check_leaks(prompts(project, filters))
    if not counts["held_out_prompts"]:
        findings.append(
            Finding(
                "no_test_split",
                "No prompt is held out (one in five is, by a hash of its text), so the round "
                "cannot be evaluated. Import more prompts.",
            )
        )
    return Preflight(counts=counts, findings=findings)


def _check_base_against(
    project: Project, base: Policy, filters: Filters, configs: Configs
) -> Iterator[Finding]:
    """Whether the prompts fit into its context, and the round into the machine."""
    folder = settings.DATA_DIR / base.folder
    context, _ = context_of(folder)
    answers = [config["train"].get("max_new_tokens", 1) for config in configs.values()]
    if context:
        asked = prompts(project, filters)
        yield from check_lengths(asked, context=context, room=max(answers, default=1))
    yield from check_room(folder, configs)


def _check_stages(stages: Sequence[str]) -> Iterator[Finding]:
    if not stages:
        yield Finding("no_stage", "Choose what to train: at least one stage.", is_error=True)
    if Run.Kind.PPO in stages and Run.Kind.REWARD not in stages:
        message = "PPO learns from a reward model. Choose that stage too, or DPO instead of both."
        yield Finding("ppo_without_reward", message, is_error=True)


def _check_modes(configs: Configs) -> Iterator[Finding]:
    """No more than a warning: which worker takes a run, and what that has, shows once it does."""
    modes = {kind: config.get("tune", {}).get("mode") for kind, config in configs.items()}
    stages = [str(Run.Kind(kind).label) for kind, mode in modes.items() if mode == "qlora"]
    if stages:
        message = (
            f"Mode qlora ({', '.join(stages)}) needs a worker with a CUDA GPU and the package "
            "bitsandbytes; on any other the stage fails as soon as it starts. Without a GPU "
            "choose lora."
        )
        yield Finding("qlora_needs_cuda", message)


def _check_documents(count: int) -> Iterator[Finding]:
    if not count:
        message = "There are no documents to pre-train on. Import some on the page Documents."
        yield Finding("no_documents", message, is_error=True)


def _check_thumbs(up: int, down: int) -> Iterator[Finding]:
    if not up + down:
        message = (
            "There are no thumbs to learn from. They come from the chat and from imports; those "
            "on held-out prompts never train."
        )
        yield Finding("no_thumbs", message, is_error=True)
    elif up + down == 1:
        message = "There is one thumb only. KTO cannot learn from one."
        yield Finding("one_thumb", message, is_error=True)
    elif not (up and down):
        side = "up" if up else "down"
        message = f"All {up + down} thumbs are {side}: KTO will learn to say more, or less, of all."
        yield Finding("one_class_of_thumbs", message)


def _check_newcomers(waiting: int) -> Iterator[Finding]:
    if waiting:
        message = (
            f"{waiting} thumbs of new guests are left out until a reviewer has looked at them "
            "(Labelers, New guests)."
        )
        yield Finding("thumbs_of_new_guests", message)


def _demonstration_findings(project: Project, filters: Filters) -> Iterator[Finding]:
    written = list(all_demonstrations(project, filters).values_list("text", "prompt__split"))
    to_learn = [text for text, split in written if split in TRAIN]
    yield from _check_demonstrations(to_learn, held_out=len(written))
    yield from check_duplicates(demonstrations(project, filters).in_split(*TRAIN))


def _ranking_findings(tally: Tally) -> Iterator[Finding]:
    now = sum(row.split in TRAIN for row in tally.by_others)
    yield from _check_rankings(now, len(tally.learnt), all_rankings=len(tally.by_others))
    yield from check_labelers(tally)
    yield from check_rankings(tally)


def _check_demonstrations(texts: list[str], *, held_out: int) -> Iterator[Finding]:
    written = [text for text in texts if text.strip()]
    if not written and held_out:
        message = (
            "All demonstrations belong to held-out prompts, which never train. "
            "Write some for other prompts."
        )
        yield Finding("no_training_demonstrations", message, is_error=True)
    elif not written:
        message = "There are no demonstrations yet. Let people write some (Label), or import them."
        yield Finding("no_demonstrations", message, is_error=True)
    elif len(written) == 1:
        message = "There is one demonstration only. A policy cannot learn from one: write more."
        yield Finding("one_demonstration", message, is_error=True)
    elif len(written) < FEW_DEMONSTRATIONS:
        message = f"Only {len(written)} demonstrations: the policy will learn them by heart."
        yield Finding("few_demonstrations", message)
    if len(written) < len(texts):
        message = (
            f"{len(texts) - len(written)} demonstrations are empty and are left out. "
            "Retract them, or write them anew."
        )
        yield Finding("empty_completion", message)


def _check_rankings(count: int, decided: int, *, all_rankings: int) -> Iterator[Finding]:
    if not count and all_rankings:
        message = (
            "All rankings belong to held-out prompts, which never train. Rank completions of "
            "other prompts."
        )
        yield Finding("no_training_rankings", message, is_error=True)
    elif not count:
        message = (
            "There are no rankings yet. Sample completions (Policies), then let people rank "
            "them (Label), or import rankings."
        )
        yield Finding("no_rankings", message, is_error=True)
    elif not decided:
        message = "All rankings are ties: there is nothing to prefer. Rank more completions."
        yield Finding("only_ties", message, is_error=True)
    elif decided == 1:
        message = "There is one ranking only. A reward model cannot learn from one: rank more."
        yield Finding("one_ranking", message, is_error=True)
    elif decided < FEW_RANKINGS:
        message = f"Only {decided} rankings tell completions apart: the reward model will guess."
        yield Finding("few_rankings", message)
