"""Every call to a model goes into the ledger, with what it cost at that moment."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal

from annotate.costs.models import Call
from annotate.prompts.policies import Policy
from feedback_site.pool import in_database

MILLION = Decimal(1_000_000)
MS_AN_HOUR = Decimal(3_600_000)
MOST_MS = 2**31 - 1  # what the database holds


def price_of(policy: Policy, usage: Mapping[str, int]) -> Decimal | None:
    """What these tokens cost by the prices of the policy's connection; None where a price or a
    count is not known."""
    server = policy.connection
    if server is None or server.price_in is None or server.price_out is None or len(usage) < 2:
        return None
    read, written = usage["prompt_tokens"], usage["completion_tokens"]
    return (read * server.price_in + written * server.price_out) / MILLION


@dataclass
class Heard:
    """A call while it is made: what has been heard, and when."""

    policy: Policy
    use: str
    run: int | None = None
    outcome: str = Call.Outcome.STOPPED  # by whoever listened, unless it ends otherwise
    usage: Mapping[str, int] = field(default_factory=dict)
    first_ms: int | None = None
    began: float = field(default_factory=time.monotonic)

    def hear(self, text: str) -> None:
        """Notes when the first words came."""
        if text and self.first_ms is None:
            self.first_ms = self._ms

    def end(self, usage: Mapping[str, int]) -> None:
        """The answer is whole."""
        self.outcome, self.usage = Call.Outcome.ANSWERED, usage

    def record(self) -> None:
        """Writes it down, unless the policy is of no project."""
        if self.policy.project_id is None:
            return
        total_ms = self._ms
        Call.objects.create(
            project_id=self.policy.project_id,
            policy_id=self.policy.pk,
            use=self.use,
            outcome=self.outcome,
            tokens_in=self.usage.get("prompt_tokens"),
            tokens_out=self.usage.get("completion_tokens"),
            first_ms=self.first_ms,
            total_ms=total_ms,
            price=self._price(total_ms),
            run=self.run,
        )

    def _price(self, total_ms: int) -> Decimal | None:
        """By tokens where a connection answers; of our own machine, by the time it took."""
        if self.policy.connection_id:
            return price_of(self.policy, self.usage)
        an_hour = self.policy.project.machine_price
        return None if an_hour is None else an_hour * total_ms / MS_AN_HOUR

    @property
    def _ms(self) -> int:
        return min(round((time.monotonic() - self.began) * 1000), MOST_MS)


@contextmanager
def recording(policy: Policy, use: str, run: int | None = None) -> Iterator[Heard]:
    """Records the call that is made meanwhile, however it ends."""
    call = Heard(policy, use, run)
    try:
        yield call
    except Exception:
        call.outcome = Call.Outcome.FAILED
        raise
    finally:
        call.record()


@asynccontextmanager
async def recording_async(policy: Policy, use: str) -> AsyncIterator[Heard]:
    """As `recording` does. Whoever listens no longer has stopped it."""
    call = Heard(policy, use)
    try:
        yield call
    except Exception:
        call.outcome = Call.Outcome.FAILED
        raise
    finally:
        await in_database(call.record)
