"""KTO: the policy learns from single thumbs, up or down (Ethayarajh et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from annotate.models import Project
from annotate.quality.unusual import unusual_guests
from rlhf.data.checks import Finding, Labels
from rlhf.data.resources import ADAPTERS, Networks
from rlhf.data.selection import Filters, thumbs_to_look_at
from rlhf.data.snapshot import Frozen, freeze_thumbs
from rlhf.models.runs import Run
from rlhf.stages.chart import ACCURACY, Chart, Series
from rlhf.stages.training import Shown, Training


def check_thumbs(labels: Labels) -> Iterator[Finding]:
    """Finds out whether there are thumbs of both kinds to learn from, and how many must wait."""
    yield from _check_enough(labels.counts["thumbs_up"], labels.counts["thumbs_down"])
    waiting = thumbs_to_look_at(labels.project, labels.filters).count()
    if waiting:
        message = (
            f"{waiting} thumbs of new guests are left out until a reviewer approves them"
            f" (Labelers, New guests)."
        )
        yield Finding("thumbs_of_new_guests", message)
    if unusual := len(unusual_guests(labels.project)):
        message = (
            f"The thumbs of {unusual} guest{'s' if unusual > 1 else ''} look unusual. Look at"
            " them (Labelers, New guests), and ignore those that say nothing of the answers."
        )
        yield Finding("unusual_guests", message)


def _check_enough(up: int, down: int) -> Iterator[Finding]:
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


class Kto(Training):
    kind = Run.Kind.KTO
    hint = "learns from the guests’ thumbs"
    learnt_from = "thumbs"
    counted = ("thumbs_up", "thumbs_down")
    without_data = "There are no thumbs to learn from. Let guests chat, then resume the run."
    label_checks = (check_thumbs,)
    shows = (Shown("Thumbs up", "thumbs_up"), Shown("Thumbs down", "thumbs_down"))
    charts = (
        Chart("KTO accuracy", "share of thumbs", ACCURACY),
        Chart("KTO: distance from its start", "nats per answer", (Series("KL", "objective/kl"),)),
    )

    def collect(self, project: Project, filters: Filters, *, train: Mapping[str, Any]) -> Frozen:
        return freeze_thumbs(project, filters)

    def networks(self, config: Mapping[str, Any]) -> Networks:
        """Counts, beside the policy, its reference; of an adapter, that is the policy without
        it."""
        return Networks(staying=config["tune"]["mode"] not in ADAPTERS)


KTO = Kto()
