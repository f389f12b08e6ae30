"""SFT: the policy learns to say what people have written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from annotate.models import Project
from rlhf.data.checks import Finding, Labels, check_duplicates
from rlhf.data.selection import HELD_OUT, TRAIN, Filters, all_demonstrations, demonstrations
from rlhf.data.snapshot import Frozen, demonstration_row, with_prompts
from rlhf.models.runs import Run
from rlhf.stages.chart import LOSS, Chart
from rlhf.stages.training import Training

FEW_DEMONSTRATIONS = 10


def check_demonstrations(labels: Labels) -> Iterator[Finding]:
    """Finds out whether there are demonstrations to learn from, and which of them are odd."""
    project, filters = labels.project, labels.filters
    all_of_them = all_demonstrations(project, filters).values_list("text", "prompt__split")
    texts = [text for text, split in all_of_them if split in TRAIN]
    written = [text for text in texts if text.strip()]
    yield from _check_enough(len(written), are_held_out=bool(all_of_them))
    if len(written) < len(texts):
        message = (
            f"{len(texts) - len(written)} demonstrations are empty and are left out. "
            "Retract them, or rewrite them."
        )
        yield Finding("empty_completion", message)
    yield from check_duplicates(demonstrations(project, filters).in_split(*TRAIN))


def _check_enough(written: int, *, are_held_out: bool) -> Iterator[Finding]:
    """`are_held_out`: there are some, be it on prompts that never train."""
    if not written and are_held_out:
        message = (
            "All demonstrations belong to held-out prompts, which never train. "
            "Write some for other prompts."
        )
        yield Finding("no_training_demonstrations", message, is_error=True)
    elif not written:
        message = "There are no demonstrations yet. Let people write some (Label), or import them."
        yield Finding("no_demonstrations", message, is_error=True)
    elif written == 1:
        message = "There is one demonstration only. A policy cannot learn from one: write more."
        yield Finding("one_demonstration", message, is_error=True)
    elif written < FEW_DEMONSTRATIONS:
        message = f"Only {written} demonstrations: the policy will memorise them."
        yield Finding("few_demonstrations", message)


class Sft(Training):
    kind = Run.Kind.SFT
    hint = "learns from demonstrations"
    learnt_from = "demonstrations"
    counted = ("demonstrations",)
    without_data = "There are no demonstrations to learn from. Write some, then resume the run."
    label_checks = (check_demonstrations,)
    charts = (Chart("SFT loss", "nats per token", LOSS),)

    def collect(self, project: Project, filters: Filters, *, train: Mapping[str, Any]) -> Frozen:
        to_learn = with_prompts(demonstrations(project, filters).in_split(*TRAIN))
        test = with_prompts(demonstrations(project, filters).in_split(*HELD_OUT))
        return Frozen(
            files={
                "train": [demonstration_row(each) for each in to_learn],
                "test": [demonstration_row(each) for each in test],
            },
            demonstrations=[*to_learn, *test],
        )


SFT = Sft()
