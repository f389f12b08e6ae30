"""What every stage is: it prepares the trainer's config, and concludes what the trainer left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rlhf.data.resources import NOTHING, Resources
from rlhf.models.leases import Lease
from rlhf.models.runs import Round, Run
from rlhf.stages.chart import Chart, Level

# Of the environment; a process that runs what others wrote, or reads it, needs none of them.
SECRETS = (
    *("SECRET_KEY", "SECRET_KEY_FALLBACKS", "DATABASE_URL", "REDIS_URL", "INFERENCE_API_KEY"),
    *("EMAIL_URL", "OIDC_URL"),
)

Config = dict[str, Any]
Summary = dict[str, Any]


class NothingToDo(Exception):
    """Raised where a run succeeds without a trainer; the message says why."""


class Unusable(Exception):
    """Raised where a run cannot start; the message says what to do."""


class Stage:
    """A kind of run. One object for each, in a file of its own; see `rlhf.stages.STAGES`."""

    kind: Run.Kind
    charts: tuple[Chart, ...] = ()

    @property
    def label(self) -> str:
        return str(self.kind.label)

    def prepare(self, lease: Lease) -> Config:
        """Writes the data files and returns the trainer's config, without seed and version. Raises
        NothingToDo and Unusable."""
        raise NotImplementedError

    def needs_trainer(self, config: Config) -> bool:
        """Whether there is anything for a trainer to do."""
        return True

    def ask_others(self, lease: Lease, *, is_over: Callable[[], bool]) -> bool:
        """Does, after the trainer, what a run asks of other servers. Returns False where `is_over`
        came first: the next attempt goes on from there. Raises Unusable."""
        return True

    def examine(self, lease: Lease, outcome: Summary) -> Summary:
        """Does what takes time with what the trainer wrote, outside the transaction that ends the
        run, so that a cancel is heard meanwhile. Returns the outcome for `conclude`."""
        return outcome

    def conclude(self, lease: Lease, outcome: Summary) -> Summary:
        """Stores what the run leaves behind and returns its summary. Runs in the fenced transaction
        that ends the run, so a policy appears together with its run's success or not at all."""
        raise NotImplementedError

    def resources(self, parameters: int, layers: int, config: Mapping[str, Any]) -> Resources:
        """Estimates memory and disk on a base of so many weights and layers. A stage that trains
        nothing takes less than any that does, and counts as nothing."""
        return NOTHING

    def about(self, run: Run) -> str:
        """Says in a line what `run`, which belongs to no round, is for."""
        return ""

    def charts_of(self, run: Run) -> tuple[Chart, ...]:
        """Returns what is drawn of `run`."""
        return self.charts

    def levels(self, run: Run) -> list[Level]:
        """Returns the levels drawn across the charts of `run`."""
        return []


def round_of(run: Run) -> Round:
    """Returns the round of a run that belongs to one; raises ValueError for another."""
    if run.round is None:
        raise ValueError(f"{run} belongs to no round")
    return run.round
