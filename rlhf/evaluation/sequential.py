"""When to stop a live comparison: a test that may be looked at after every thumb.

Each policy's thumbs are independent draws with one unknown share of ups. For any share θ, the
likelihood of what was seen averaged over uniformly distributed shares, over its likelihood at θ, is
a martingale that begins at 1 if θ is the true one (Robbins 1970, "Statistical methods related to
the law of the iterated logarithm"; as a mixture test for products by Johari, Koomen, Pekelis and
Walsh 2022, "Always valid inference: continuous monitoring of A/B tests"; for counts by Lindon and
Malek 2022, "Anytime-valid inference for multinomial count data"). So is the product of two
policies' martingales, in whatever order their thumbs come. By Ville's inequality it ever reaches
1/α with a chance of at most α: the pairs of shares where it has not are a confidence set that holds
at all times at once. A difference of shares is possible as long as one such pair has it."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, lgamma, log

ALPHA = 0.05
REACHED = log(1 / ALPHA)
WORTH = 0.05  # a difference that is worth telling
HALVINGS = 48
MOST = 2**20  # times as many thumbs, beyond which nothing is foretold


@dataclass(frozen=True)
class Thumbs:
    """How many were up and down; not whole where it is foretold."""

    ups: float
    downs: float

    @property
    def count(self) -> float:
        return self.ups + self.downs

    @property
    def share(self) -> float | None:
        return self.ups / self.count if self.count else None

    def __mul__(self, times: float) -> Thumbs:
        return Thumbs(self.ups * times, self.downs * times)


@dataclass(frozen=True)
class Sequential:
    """Where a comparison stands. `low`, `high`: of the difference of the challenger's share of ups
    over the live policy's, the ends of the interval that holds at all times with 95 %. `more`: how
    many further thumbs decide it if both shares stay as they are; 0: it is decided; None: nothing
    can be foretold."""

    live: Thumbs
    challenger: Thumbs
    low: float
    high: float
    more: int | None

    @property
    def difference(self) -> float | None:
        if self.live.share is None or self.challenger.share is None:
            return None
        return self.challenger.share - self.live.share

    @property
    def thumbs(self) -> int:
        return round(self.live.count + self.challenger.count)

    @property
    def outcome(self) -> str:
        """Says `better`, `worse` or `alike`: stop; empty: go on."""
        if self.low > 0:
            return "better"
        if self.high < 0:
            return "worse"
        return "alike" if self.low > -WORTH and self.high < WORTH else ""


def compare(live: Thumbs, challenger: Thumbs) -> Sequential:
    """Sums up the thumbs so far."""
    low, high = interval(live, challenger)
    return Sequential(live, challenger, low, high, _more(live, challenger))


def evidence(live: Thumbs, challenger: Thumbs, difference: float = 0.0) -> float:
    """The logarithm of the martingale against a difference of shares, at the pair of shares with
    that difference which speaks least against it."""
    mixed = _log_beta(live) + _log_beta(challenger)
    return mixed - _best_likelihood(live, challenger, difference)


def interval(live: Thumbs, challenger: Thumbs) -> tuple[float, float]:
    """The differences that are possible: they lie in one piece, for the martingale's logarithm is
    convex in both shares."""
    if live.share is None or challenger.share is None:
        return -1.0, 1.0
    seen = challenger.share - live.share
    low, high = (_end(live, challenger, seen, to) for to in (-1.0, 1.0))
    return low, high


def _end(live: Thumbs, challenger: Thumbs, inside: float, outside: float) -> float:
    if evidence(live, challenger, outside) < REACHED:
        return outside
    for _ in range(HALVINGS):
        middle = (inside + outside) / 2
        if evidence(live, challenger, middle) < REACHED:
            inside = middle
        else:
            outside = middle
    return outside


def _log_beta(thumbs: Thumbs) -> float:
    """The likelihood averaged over uniformly distributed shares: B(1 + ups, 1 + downs)."""
    return lgamma(1 + thumbs.ups) + lgamma(1 + thumbs.downs) - lgamma(2 + thumbs.count)


def _best_likelihood(live: Thumbs, challenger: Thumbs, difference: float) -> float:
    """The highest log-likelihood of two shares with this difference."""
    share = _best_share(live, challenger, difference)
    return _likelihood(live, share) + _likelihood(challenger, share + difference)


def _best_share(live: Thumbs, challenger: Thumbs, difference: float) -> float:
    """The live policy's share at which that is: of equal shares the one of all thumbs together;
    else, the log-likelihood being concave, by halving the way to where its slope is 0."""
    if difference == 0:
        count = live.count + challenger.count
        return (live.ups + challenger.ups) / count if count else 0.5
    low, high = max(0.0, -difference), min(1.0, 1.0 - difference)
    for _ in range(HALVINGS):
        share = (low + high) / 2
        if _slope(live, share) + _slope(challenger, share + difference) > 0:
            low = share
        else:
            high = share
    return (low + high) / 2


def _likelihood(thumbs: Thumbs, share: float) -> float:
    return _times_log(thumbs.ups, share) + _times_log(thumbs.downs, 1 - share)


def _times_log(count: float, share: float) -> float:
    if not count:
        return 0.0
    return count * log(share) if share > 0 else -inf


def _slope(thumbs: Thumbs, share: float) -> float:
    return _over(thumbs.ups, share) - _over(thumbs.downs, 1 - share)


def _over(count: float, share: float) -> float:
    if not count:
        return 0.0
    return count / share if share > 0 else inf


def _more(live: Thumbs, challenger: Thumbs) -> int | None:
    if not live.count or not challenger.count:
        return None
    if _is_decided(live, challenger):
        return 0
    enough = 2.0
    while not _is_decided(live * enough, challenger * enough):
        enough *= 2
        if enough > MOST:
            return None
    few = enough / 2
    for _ in range(12):
        middle = (few + enough) / 2
        if _is_decided(live * middle, challenger * middle):
            enough = middle
        else:
            few = middle
    return ceil((enough - 1) * (live.count + challenger.count))


def _is_decided(live: Thumbs, challenger: Thumbs) -> bool:
    assert live.share is not None and challenger.share is not None
    if evidence(live, challenger) >= REACHED:
        return True
    if abs(challenger.share - live.share) >= WORTH:
        return False
    return all(evidence(live, challenger, end) >= REACHED for end in (-WORTH, WORTH))
