"""Stages that learn: from a frozen snapshot of labels, starting where the stage before ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from math import ceil
from typing import Any

from annotate.models import Policy, Project
from rlhf.data.checks import Finding, Labels
from rlhf.data.resources import Networks, Resources, training_resources
from rlhf.data.selection import Filters
from rlhf.data.snapshot import Frozen, Rows, data_config, freeze
from rlhf.models.checkpoints import Checkpoint
from rlhf.models.leases import Lease
from rlhf.models.outcomes import TrainedPolicy
from rlhf.models.runs import Round, Run
from rlhf.stages.stage import Config, Stage, Summary, Unusable, round_of
from rlhf.stages.weights import publish_model, weights_of

# What the rows of a data file beside "train" are for.
USES = {
    "test": "held out",
    "held_out_labelers": "by held-out labelers",
    "calibration": "demonstration{s} to calibrate",
    "demonstrations": "demonstration{s} mixed in",
}

LabelCheck = Callable[[Labels], Iterable[Finding]]


@dataclass(frozen=True)
class Shown:
    """A count that the page of a new round shows when the stage is chosen."""

    label: str
    name: str  # in rlhf.data.counts.count
    page: str = ""  # the URL name of the page where there are more of these


class Training(Stage):
    """A stage a round may be made of."""

    hint: str  # what it does, after its name in the list of stages
    learnt_from: str  # the unit of its training rows, "120 demonstrations"
    without_data: str  # why it cannot start when there are none, and what to do
    data_files: tuple[str, ...] = ("train", "test")  # of its snapshot, those its trainer reads
    label_checks: tuple[LabelCheck, ...] = ()
    counted: tuple[str, ...]  # the counts of `rlhf.data.counts` that are its training rows
    shows: tuple[Shown, ...] = ()  # beside the counts that every round is shown
    makes_policy = True
    reads_rankings = False

    @property
    def title(self) -> str:
        return self.label[:1].upper() + self.label[1:]

    @property
    def makes_reward_model(self) -> bool:
        return not self.makes_policy

    @property
    def by_reward_model(self) -> bool:
        """Tells whether it learns from the round's reward model."""
        return self.kind in Run.BY_REWARD_MODEL

    def collect(self, project: Project, filters: Filters, *, train: Mapping[str, Any]) -> Frozen:
        """Reads what it would learn from now: the rows of each data file and where they came from.
        `train`: the fields of its recipe."""
        raise NotImplementedError

    def reads(self, counts: Mapping[str, int]) -> str:
        """Returns what its data files hold, such as "245 rankings to learn from, 55 held out".
        `counts`: the rows of each file."""
        parts = (
            [f"{self.learns_from(counts['train'])} to learn from"] if counts.get("train") else []
        )
        for name, use in USES.items():
            if rows := counts.get(name):
                parts.append(f"{rows} {use.format(s='' if rows == 1 else 's')}")
        return ", ".join(parts)

    def learns_from(self, rows: int) -> str:
        """Returns so many training rows in words, such as "245 rankings" or "1 ranking"."""
        return f"{rows} {self.learnt_from.removesuffix('s') if rows == 1 else self.learnt_from}"

    def steps(self, train: Mapping[str, Any], rows: Rows) -> int | None:
        """Counts the optimiser's steps over these training rows; None if that depends on the
        tokenizer."""
        return int(train["epochs"]) * ceil(self.examples(rows) / train["batch_size"])

    def rows_seen(self, train: Mapping[str, Any], rows: int) -> float:
        """Counts the rows it goes through, by which its time grows. `rows`: to train on."""
        return float(train["epochs"] * rows)

    def examples(self, rows: Rows) -> int:
        """Counts the elements that batches are made of."""
        return len(rows)

    def room(self, train: Mapping[str, Any]) -> int:
        """Returns how many tokens the longest answer has."""
        return int(train.get("max_completion_tokens") or train.get("max_new_tokens") or 1)

    def networks(self, config: Mapping[str, Any]) -> Networks:
        """Says which networks it keeps in memory at once."""
        return Networks()

    def resources(self, parameters: int, layers: int, config: Mapping[str, Any]) -> Resources:
        return training_resources(parameters, layers, config, self.networks(config))

    def models(self, run: Run) -> dict[str, str]:
        """Returns the `models` part of the trainer's config, folders relative to DATA_DIR."""
        return {"policy": weights_of(starting_point(run))}

    def prepare(self, lease: Lease) -> Config:
        run = lease.run
        freeze(lease, self.collect)
        data = data_config(f"{run.folder}/data")
        if "train" not in data:
            raise Unusable(self.without_data)
        return {
            "kind": run.kind,
            "models": self.models(run),
            "train": run.config["train"],
            "tune": run.config["tune"],
            "data": {name: data[name] for name in (*self.data_files, "sha256") if name in data},
        }

    def conclude(self, lease: Lease, outcome: Summary) -> Summary:
        """Makes a new policy, a candidate that nobody speaks through yet; and one for each epoch
        kept."""
        kept = [
            _new_policy(publish_model(lease, epoch=int(epoch), step=step))
            for epoch, step in outcome.get("epochs", {}).items()
        ]
        policy = _new_policy(publish_model(lease))
        return {**outcome, "policy": policy.name, "kept": [each.name for each in kept]}


def starting_point(run: Run) -> Policy:
    """Returns what the stages before `run` have made of the round's base, as far as they make
    policies."""
    round = round_of(run)
    made = TrainedPolicy.objects.made_in(round).before(run.position)
    last = made.final().last()
    return last.policy if last else round.base


def _new_policy(checkpoint: Checkpoint) -> Policy:
    run, round, epoch = checkpoint.run, round_of(checkpoint.run), checkpoint.epoch
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


def _free_name(round: Round, kind: str) -> str:
    """r3-ppo; if somebody has given that name away, r3-ppo-2."""
    names = (f"r{round.number}-{kind}" + (f"-{i}" if i > 1 else "") for i in count(1))
    return next(name for name in names if not round.project.policies.filter(name=name).exists())
