"""Is there enough, and good enough, to learn from? Asked before a round is launched.

An error stops the launch; a warning is shown and lets it pass. Each has a name and says what to
do."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from django.conf import settings

from annotate.models import Policy, Project, Ranking
from rlhf.models import Run
from rlhf.selection import (
    EVERYTHING,
    TRAIN,
    Filters,
    all_demonstrations,
    all_rankings,
    count,
    training_rankings,
)
from rlhf.stages import BY_RANKINGS, DEFAULT_STAGES

FEW_DEMONSTRATIONS, FEW_RANKINGS = 10, 10
LABELER_SHARE = 0.3


class NotReady(Exception):
    """A round cannot be launched. `findings` say why and what to do."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__(" ".join(finding.message for finding in findings))
        self.findings = findings


@dataclass(frozen=True)
class Finding:
    name: str
    message: str
    is_error: bool = False


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
) -> Preflight:
    """Only what these stages learn from is looked at."""
    counts = count(project, filters)
    findings = [*check_base(base), *_check_stages(stages)]
    if Run.Kind.PRETRAIN in stages:
        findings += _check_documents(counts["documents"])
    if Run.Kind.SFT in stages:
        findings += _demonstration_findings(project, filters)
    if set(stages) & set(BY_RANKINGS):
        findings += _ranking_findings(project, filters)
    if Run.Kind.KTO in stages:
        findings += _check_thumbs(counts["thumbs_up"], counts["thumbs_down"])
    if not counts["held_out_prompts"]:
        findings.append(
            Finding(
                "no_test_split",
                "No prompt is held out (one in five is, by a hash of its text), so the round "
                "cannot be evaluated. Import more prompts.",
            )
        )
    return Preflight(counts=counts, findings=findings)


def _check_stages(stages: Sequence[str]) -> Iterator[Finding]:
    if not stages:
        yield Finding("no_stage", "Choose what to train: at least one stage.", is_error=True)
    if Run.Kind.PPO in stages and Run.Kind.REWARD not in stages:
        message = "PPO learns from a reward model. Choose that stage too, or DPO instead of both."
        yield Finding("ppo_without_reward", message, is_error=True)


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


def _demonstration_findings(project: Project, filters: Filters) -> Iterator[Finding]:
    written = all_demonstrations(project, filters).select_related("prompt")
    to_learn = [d.text for d in written if d.prompt.split in TRAIN]
    yield from _check_demonstrations(to_learn, held_out=len(written))


def _ranking_findings(project: Project, filters: Filters) -> Iterator[Finding]:
    ranked = training_rankings(project, filters).in_split(*TRAIN)
    decided = list(ranked.select_related("labeler").prefetch_related("placements__completion"))
    to_rank = all_rankings(project, filters).exclude(labeler__in=filters.held_out_labelers)
    to_rank_now = to_rank.in_split(*TRAIN).count()
    yield from _check_rankings(to_rank_now, len(decided), all_rankings=to_rank.count())
    yield from _check_labelers(decided)
    yield from _check_contradictions(decided)
    yield from _check_identical(decided)


def check_base(base: Policy | None) -> Iterator[Finding]:
    if base is None:
        message = "There is no base policy. Add one that has a model folder."
        yield Finding("no_base", message, is_error=True)
    elif not base.folder:
        message = f"{base} has no weights of its own to train. Choose a policy with a model folder."
        yield Finding("base_without_weights", message, is_error=True)
    elif missing := _missing_of_a_model(base.folder):
        message = (
            f"The folder of {base}, {base.folder} in DATA_DIR, is not a model folder: "
            f"{missing}. Point the policy to a Hugging Face folder with safetensors."
        )
        yield Finding("base_not_a_model", message, is_error=True)


def _missing_of_a_model(name: str) -> str:
    folder = settings.DATA_DIR / name
    if not folder.is_dir():
        return "it does not exist"
    if not (folder / "config.json").is_file():
        return "config.json is missing"
    try:
        json.loads((folder / "config.json").read_text())
    except ValueError:
        return "config.json is not JSON"
    if not any(folder.glob("*.safetensors")):
        return "there are no weights (*.safetensors)"
    if not any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer_config.json")):
        return "the tokenizer is missing"
    return ""


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
        message = f"{len(texts) - len(written)} demonstrations are empty and are left out."
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


def _check_labelers(rankings: list[Ranking]) -> Iterator[Finding]:
    by_labeler = Counter(ranking.labeler for ranking in rankings)
    if len(by_labeler) == 1:
        (labeler,) = by_labeler
        message = f"All rankings come from one person, {labeler.display_name}."
        yield Finding("one_labeler", message)
    elif by_labeler:
        labeler, count = by_labeler.most_common(1)[0]
        share = count / len(rankings)
        if share > max(LABELER_SHARE, 1.5 / len(by_labeler)):
            message = f"{share:.0%} of the rankings come from one person, {labeler.display_name}."
            yield Finding("dominant_labeler", message)


def _check_contradictions(rankings: list[Ranking]) -> Iterator[Finding]:
    """People disagree, and the reward model learns from that; a person who contradicts
    themselves on the same completions is worth a look."""
    seen: dict[tuple[int, int, int], bool] = {}
    contradictions = 0
    for ranking in rankings:
        place = {each.completion_id: each.place for each in ranking.placements.all()}
        ids = sorted(place)
        for i, one in enumerate(ids):
            for other in ids[i + 1 :]:
                if place[one] == place[other]:
                    continue
                key, better = (ranking.labeler_id, one, other), place[one] < place[other]
                contradictions += seen.setdefault(key, better) != better
    if contradictions:
        message = f"{contradictions} comparisons contradict one by the same person."
        yield Finding("contradictory_comparisons", message)


def _check_identical(rankings: list[Ranking]) -> Iterator[Finding]:
    count = 0
    for ranking in rankings:
        places: dict[str, set[int]] = {}
        for each in ranking.placements.all():
            places.setdefault(each.completion.text.strip(), set()).add(each.place)
        count += any(len(different) > 1 for different in places.values())
    if count:
        message = f"{count} rankings put completions of the same text in different places."
        yield Finding("chosen_is_rejected", message)
