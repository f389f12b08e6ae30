"""Sampling: policies answer prompts; people rank the answers, or SFT learns from them."""

from __future__ import annotations

from annotate.labels.kinds.ranking.tasks import open_rank_tasks
from annotate.models import Completion, Demonstration
from rlhf.data.selection import prompts
from rlhf.data.snapshot import prompt_row
from rlhf.evaluation.next_batch import open_next_batch
from rlhf.evaluation.win_rate import ask_people
from rlhf.models.leases import Lease
from rlhf.models.runs import Run
from rlhf.stages.answering import (
    Answering,
    answers_in,
    sampler_config,
    scored_by,
    store_completions,
)
from rlhf.stages.stage import Config, NothingToDo, Summary

DISTILLED_BY = "distilled by run "  # and its number, as the source of a demonstration


class Sampling(Answering):
    kind = Run.Kind.SAMPLE

    def prepare(self, lease: Lease) -> Config:
        run = lease.run
        policies = list(run.project.policies.filter(pk__in=run.config["policies"]).order_by("pk"))
        asked = prompts(run.project).filter(pk__in=run.config["prompts"])
        rows = [prompt_row(prompt) for prompt in asked]
        if not rows:
            raise NothingToDo("All its prompts have been archived or withdrawn.")
        config = sampler_config(lease, policies, rows, own_lengths=True)
        judges = run.project.reward_models.select_related("checkpoint__run")
        return scored_by(judges.filter(pk=run.config.get("reward_model")).first(), config)

    def conclude(self, lease: Lease, outcome: Summary) -> Summary:
        """Stores the completions and opens the work of ranking them; or makes demonstrations of
        them."""
        completions = store_completions(lease, Completion.Source.SAMPLED)
        outcome = {**outcome, "completions": len(completions)}
        if lease.run.config.get("distil"):
            return {**outcome, "distilled": distil(lease.run, completions)}
        return {**outcome, "rank_tasks": _open_work(lease, completions)}


def _open_work(lease: Lease, completions: list[Completion]) -> int:
    run = lease.run
    if run.config.get("is_comparison"):
        return ask_people(run, prompts_at_most=len(run.config["prompts"]))
    if run.config.get("next_batch"):
        return open_next_batch(run, answers_in(lease.path))
    return open_rank_tasks(
        run.project,
        prompts=prompts(run.project).filter(pk__in={each.prompt_id for each in completions}),
        k=run.project.ranking_size,
        overlap=run.project.overlap,
        batch=f"run {run.pk}",
    )


def distil(run: Run, completions: list[Completion]) -> int:
    """Makes demonstrations of the finished answers, by a labeler who is the policy and is marked as
    simulated. Returns how many."""
    policy = run.project.policies.get(pk__in=run.config["policies"])
    labeler = run.project.labeler_named(f"policy {policy.name}", simulated=True)
    whole = [each for each in completions if each.finish_reason == "stop" and each.text.strip()]
    Demonstration.objects.bulk_create(
        Demonstration(
            prompt_id=each.prompt_id,
            labeler=labeler,
            text=each.text,
            distilled_from=policy,
            source=f"{DISTILLED_BY}{run.pk}",
        )
        for each in whole
    )
    return len(whole)


SAMPLE = Sampling()
