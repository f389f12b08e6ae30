"""What a policy must show before it may answer guests. Each condition has a name and says what it
saw; an operator may override them in words, and both are kept with the decision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.core.exceptions import ValidationError

from annotate.models import Policy
from annotate.quality.rates import rates_of
from annotate.templatetags.show import interval
from rlhf.data.selection import count_held_out
from rlhf.data.staleness import stale_in
from rlhf.models.checkpoints import Checkpoint
from rlhf.models.metrics import Metric
from rlhf.models.outcomes import TrainedPolicy
from rlhf.models.runs import Run
from rlhf.models.suites import GateLimits, Suite, SuiteResult
from rlhf.registry.verdict import DECIDED, Verdict, Verdicts
from rlhf.runs.alarms import COLLAPSE, alarms_of


@dataclass(frozen=True)
class Condition:
    name: str
    title: str
    passed: bool
    said: str


class Refused(ValidationError):
    """The gate stays shut; `conditions` are those that failed."""

    def __init__(self, policy: Policy, failed: list[Condition]) -> None:
        self.conditions = failed
        reasons = " ".join(f"{each.title}: {each.said}" for each in failed)
        super().__init__(
            f"{policy} was not promoted. {reasons} To promote it anyway, give a reason for"
            f" overriding the gate."
        )


def conditions(policy: Policy, verdict: Verdict | None = None) -> list[Condition]:
    """Says what the gate sees. `verdict`: on it against the live policy, where it is known."""
    live = policy.project.policies.live().exclude(pk=policy.pk).first()
    limits = GateLimits.of(policy.project)
    if live and verdict is None:
        verdict = Verdicts(policy.project).between(policy, live)
    return [
        *_withdrawn(policy),
        *(_blind_win_rate(verdict, limits.prompts) if verdict else ()),
        *(_equal_length(verdict, limits.prompts) if verdict else ()),
        *_kl(policy, limits.kl),
        *(_length(verdict, limits.length) if verdict else ()),
        *_collapse(policy),
        *_suites(policy, live),
        *_harm(policy, limits.harm),
    ]


def _withdrawn(policy: Policy) -> Iterator[Condition]:
    """Where it was made of data that was withdrawn since."""
    if policy.pk in stale_in(policy.project).policies:
        said = "it was trained on data that has since been withdrawn; a new round can do without."
        yield Condition("withdrawn", "Withdrawn data", passed=False, said=said)


def prompts_missing(verdict: Verdict, fewest: int) -> int:
    """Reckons on how many more prompts people have to compare the two before the gate can tell."""
    met = verdict.people.prompts if verdict.people else 0
    return max(verdict.needed, fewest - met)


def prompts_left(verdict: Verdict) -> int:
    """On how many more held-out prompts people can compare the two."""
    met = verdict.people.prompts if verdict.people else 0
    return max(0, count_held_out(verdict.policy.project) - met)


def _blind_win_rate(verdict: Verdict, fewest: int) -> Iterator[Condition]:
    name, title = "blind_win_rate", "Blind win rate"
    live, seen = verdict.opponent, verdict.people
    more = prompts_missing(verdict, fewest)
    if seen is None or seen.prompts < fewest:
        met = seen.prompts if seen else 0
        said = (
            f"people have compared it with {live} on {met} prompts; at least {fewest} are needed, "
            f"and about {more} more to decide."
        )
        yield Condition(name, title, passed=False, said=said)
        return
    rate = seen.overall
    said = f"{rate.win_rate:.0%} over {live} {interval(rate.low, rate.high)}"
    if rate.low is not None and rate.low > DECIDED:
        yield Condition(name, title, passed=True, said=f"{said}.")
    elif rate.high is not None and rate.high < DECIDED:
        yield Condition(name, title, passed=False, said=f"{said}; people prefer {live}.")
    else:
        said += f"; the whole interval must lie above 50%. About {more} more prompts will decide."
        yield Condition(name, title, passed=False, said=said)


def _equal_length(verdict: Verdict, fewest: int) -> Iterator[Condition]:
    """Whoever wins by length alone must not pass."""
    name, title = "equal_length", "Win rate at equal length"
    seen = verdict.people
    if seen is None or seen.prompts < fewest:
        return
    rate = seen.equal_length
    if rate.win_rate is None:
        said = f"cannot be told: {rate.why}. Length alone may explain what people prefer."
        yield Condition(name, title, passed=False, said=said)
        return
    said = f"{rate.win_rate:.0%} over {verdict.opponent} {interval(rate.low, rate.high)}"
    passed = rate.win_rate > DECIDED
    end = "." if passed else "; it must be above 50%."
    yield Condition(name, title, passed=passed, said=said + end)


def _kl(policy: Policy, limit: float) -> Iterator[Condition]:
    """Only learning from rollouts leaves a distance to what it began from. A prompt on top of its
    weights hides that from nobody."""
    model = Checkpoint.objects.behind(policy)
    steps = Metric.objects.of(model.run).with_kl_and_score() if model else None
    last = steps.order_by("-step").first() if steps is not None else None
    if last is None:
        return
    kl = float(last[0])
    is_itself = TrainedPolicy.objects.of(policy) is not None
    measured = "" if is_itself else ", by its weights alone, without its prompt"
    said = f"{kl:.1f} nats per answer from the SFT policy{measured}; the limit is {limit:g}."
    yield Condition("kl", "KL", passed=kl <= limit, said=said)


def _length(verdict: Verdict, limit: float) -> Iterator[Condition]:
    """Of their answers to the same held-out prompts: neither much longer nor much shorter."""
    ratio = verdict.length
    if ratio is None:
        return
    longest = max(limit, 1 / limit)
    said = (
        f"{ratio:.2f} times that of {verdict.opponent}; the limits are {1 / longest:.2f} and "
        f"{longest:.2f}."
    )
    passed = 1 / longest <= ratio <= longest
    yield Condition("length", "Mean length", passed=passed, said=said)


def _collapse(policy: Policy) -> Iterator[Condition]:
    """What rang while it learnt from its own answers, where it did."""
    model = Checkpoint.objects.behind(policy)
    if model is None or model.run.kind not in Run.BY_REWARD_MODEL:
        return
    rang = [each.what for each in alarms_of(model.run) if each.name in COLLAPSE]
    said = f"{'; '.join(rang)}." if rang else "none rang during its training."
    yield Condition("alarms", "Collapse alarms", passed=not rang, said=said)


def _harm(policy: Policy, limit: float | None) -> Iterator[Condition]:
    """By what labelers flagged; nothing where the project sets no limit."""
    name, title = "harm", "Harmful answers"
    if limit is None:
        return
    rates = rates_of(policy)
    if rates is None:
        said = "nobody has judged its answers yet."
        yield Condition(name, title, passed=False, said=said)
        return
    share = rates.harmful
    low, high = share.interval
    said = (
        f"{share.hits} of {share.trials} judged answers carry a flag for harm"
        f" ({low:.1%}–{high:.1%}); the whole interval must lie at {limit:g}% or below."
    )
    yield Condition(name, title, passed=high * 100 <= limit, said=said)


def _suites(policy: Policy, live: Policy | None) -> Iterator[Condition]:
    """Of the suites the live policy was asked, none may be worse or left out."""
    name, title = "suites", "Behaviour suites"
    suites = Suite.active_in(policy.project)
    if live is None or not suites:
        return
    found, ours = SuiteResult.objects.newest_of(live), SuiteResult.objects.newest_of(policy)
    theirs = {suite: found[suite] for suite in suites if suite in found}
    unasked = ", ".join(f"“{suite}”" for suite in suites if suite not in theirs)
    if not theirs:
        said = f"nothing to compare: none was run on {live}."
        yield Condition(name, title, passed=True, said=said)
        return
    if not ours:
        said = f"run on {live}, but not on {policy} yet."
        yield Condition(name, title, passed=False, said=said)
        return
    worse = [
        f"“{suite}” {ours[suite].passed} of {mine.probes} ({live}: {mine.passed})"
        for suite, mine in theirs.items()
        if suite in ours and ours[suite].is_worse_than(mine)
    ]
    unlike = [
        f"“{suite}”"
        for suite, mine in theirs.items()
        if suite not in ours or not ours[suite].is_comparable_to(mine)
    ]
    said = "; ".join(
        [
            *([f"worse in {', '.join(worse)}"] if worse else []),
            *([f"not comparable in {', '.join(unlike)}: run them on both again"] if unlike else []),
            *([] if worse or unlike else [f"not worse than {live} in any"]),
            *([f"not compared, because they were not run on {live}: {unasked}"] if unasked else []),
        ]
    )
    yield Condition(name, title, passed=not (worse or unlike), said=f"{said}.")
