"""Alarms and guards of a training in words: what rang, at which steps, and what to do about it.

The trainer rings by a figure called `alarm/NAME` (rlhf.learning.ppo.monitor); a run keeps the first
and the last step of each. A guard pauses the run, by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rlhf.models.runs import Run

PREFIX = "alarm/"
Steps = dict[str, list[int]]  # of each alarm: the first and the last step at which it rang

# What rang, and what to do.
MEANING = {
    "negative_kl": (
        "KL below zero, five updates running",
        "The answers were not drawn from the policy that learns. With a vLLM engine, check that it "
        "serves these weights at this temperature; trust no figure of this run until then.",
    ),
    "first_ratio": (
        "Answers are less or more likely than when they were drawn, before anything was learnt",
        "Rollout and training disagree about the policy: check engine and precision. If it rings "
        "at every update, cancel.",
    ),
    "explained_variance": (
        "The critic predicts worse than a constant",
        "The score will rise slowly. Clone the settings with a higher critic_learning_rate, or "
        "some updates of critic_warmup.",
    ),
    "clip_fraction": (
        "More than 30 % of the probability ratios were clipped",
        "The steps are too large. Clone the settings with a lower learning_rate, or fewer passes "
        "over a rollout.",
    ),
    "low_entropy": (
        "Entropy below a quarter of its start",
        "The policy says the same again and again: read its answers under Samples. Clone the "
        "settings with a higher kl_coef or a lower learning_rate.",
    ),
    "eos_rate": (
        "20 points fewer answers come to an end than at the start",
        "They are cut off at max_new_tokens. Clone the settings with a higher missing_eos_penalty, "
        "or let answers be longer.",
    ),
    "length_doubled": (
        "Answers more than twice as long as at the start",
        "The reward model may pay for length: read the answers under Samples, and look at the win "
        "rate at equal length before you promote. Clone the settings with a higher kl_coef.",
    ),
    "length_halved": (
        "Answers less than half as long as at the start",
        "The reward model may pay for silence: read the answers under Samples. Clone the settings "
        "with a higher kl_coef, or with a reward model that learnt from more labels.",
    ),
    "distinct_collapsed": (
        "Less than half as many different word pairs as at the start",
        "The policy says the same again and again: read its answers under Samples. Clone the "
        "settings with a higher kl_coef or a lower learning_rate.",
    ),
    "over_optimised": (
        "The score rises while the held-out reward model's falls",
        "The policy now learns the reward model's mistakes. Cancel, or clone the settings with "
        "fewer updates or a higher kl_coef; promote nothing from this run without asking people.",
    ),
}

# Those after which a policy may be worse than it was, whatever its score says.
COLLAPSE = frozenset(
    ("low_entropy", "eos_rate", "length_doubled", "length_halved", "distinct_collapsed",
     "over_optimised")
)  # fmt: skip

# What to do about a run that a guard has paused.
GUARDS = {
    "kl limit": "The policy is too far from where it began. Clone the settings with a higher "
    "kl_coef, fewer updates or a lower learning_rate; or with a higher kl_limit.",
    "entropy collapse": "The policy says the same again and again. Clone the settings with a "
    "higher kl_coef or a lower learning_rate.",
    "length blowup": "The reward model may pay for length: read the answers under Samples. Clone "
    "the settings with a higher kl_coef; or with a higher max_length, if long answers are welcome.",
    "length halved": "The reward model may pay for silence: read the answers under Samples. Clone "
    "the settings with a higher kl_coef; or with a lower min_length, if short answers are welcome.",
    "distinct collapsed": "The policy says the same again and again. Clone the settings with a "
    "higher kl_coef or a lower learning_rate; or with a lower min_distinct.",
    "over optimised": "The policy now learns the reward model's mistakes. Evaluate an earlier "
    "checkpoint, or clone the settings with fewer updates or a higher kl_coef; or set "
    "stop_over_optimised to false.",
    "identical outputs": "Different prompts get one answer. Clone the settings with a higher "
    "kl_coef or a lower learning_rate.",
    "not finite": "Clone the settings with a lower learning_rate.",
}
LIMITS = {
    "kl limit": "kl_limit",
    "entropy collapse": "min_entropy",
    "length blowup": "max_length",
    "length halved": "min_length",
    "distinct collapsed": "min_distinct",
    "identical outputs": "max_identical",
    "over optimised": "stop_over_optimised",
}  # the setting that paused the run
CONFIG_ERROR = "ConfigError: "  # how the trainer names settings that cannot be
DISK_FULL = "Make room (Policies, Published models), then resume."


@dataclass(frozen=True)
class Alarm:
    """`name`: as the trainer rings it."""

    run: Run
    name: str
    what: str
    advice: str
    first: int
    last: int


def heard_in(rows: Iterable[dict[str, Any]], before: Steps) -> Steps:
    """Merges alarm steps from metric rows into those known before; idempotent."""
    steps = dict(before)
    for row in rows:
        for name in row:
            if name.startswith(PREFIX):
                first, last = steps.get(name.removeprefix(PREFIX), [row["step"]] * 2)
                span = [min(first, row["step"]), max(last, row["step"])]
                steps[name.removeprefix(PREFIX)] = span
    return steps


def steps_in(figures: Iterable[tuple[str, int, int]]) -> Steps:
    """Picks the alarms among figures given with the first and the last step at which a run has
    them."""
    return {
        name.removeprefix(PREFIX): [first, last]
        for name, first, last in figures
        if name.startswith(PREFIX)
    }


def advice_on(run: Run) -> str:
    """Says what to do about a run that was paused."""
    if meets_its_guard_again(run) and run.state == Run.State.FAILED:
        return "Clone the settings and change what the message names; resumed, it fails again."
    return DISK_FULL if _paused_by(run) == "disk full" else GUARDS.get(_paused_by(run), "")


def meets_its_guard_again(run: Run) -> bool:
    """Tells whether a run, resumed with the settings it has, would soon stop once more: a guard
    has paused it, or its settings were refused."""
    refused = run.state == Run.State.FAILED and CONFIG_ERROR in run.reason
    return refused or _paused_by(run) in GUARDS


def limit_of(run: Run) -> str:
    """Names the setting whose limit has paused a run; "" where none did."""
    return LIMITS.get(_paused_by(run), "") if run.state == Run.State.PAUSED else ""


def with_limit(run: Run, value: float) -> dict[str, Any]:
    """Returns that setting with another value; 0 pauses never."""
    name = limit_of(run)
    is_switch = isinstance(run.config["train"].get(name), bool)
    return {name: bool(value) if is_switch else value} if name else {}


def _paused_by(run: Run) -> str:
    return run.why_paused.partition(":")[0]


def alarms_of(run: Run) -> list[Alarm]:
    """Lists a run's alarms in words, the earliest first."""
    found = []
    for name, (first, last) in run.alarms.items():
        what, advice = MEANING.get(name, (name.replace("_", " "), ""))
        found.append(Alarm(run, name, what, advice, first, last))
    return sorted(found, key=lambda alarm: alarm.first)
