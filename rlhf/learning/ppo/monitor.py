"""What goes wrong in PPO, RLOO and GRPO, by name: alarms that are logged, and reasons to stop."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from rlhf.learning.contract.hyperparameters import OnRollouts
from rlhf.learning.run.run_folder import Paused

NEGATIVE_KL_RUN, YOUNG, CLIPPED, LOW_ENTROPY, EOS_DROP = 5, 20, 0.3, 0.25, 0.2
LENGTH_GROWN, LENGTH_SHRUNK, DISTINCT_SHRUNK = 2.0, 0.5, 0.5

# Nothing has been learnt before the first mini-batch, so its ratios are 1 but for rounding. In full
# precision that holds for every token. A bf16 logit of 16 is rounded to eighths, and the same row
# rounds differently in another batch: single tokens are off by a few percent without any fault,
# while a wrong temperature, mask or adapter moves the mean.
FIRST_RATIO_OF_ANY, FIRST_RATIO_MEAN = 1e-3, 0.05


FROM_THE_START = ("policy/entropy", "response/length", "response/eos_rate", "response/distinct_2")


class Monitor:
    """Remembers how a run began, and what its last evaluations were like."""

    def __init__(self, settings: OnRollouts, *, is_exact: bool = True) -> None:
        """`is_exact`: the policy learns in full precision."""
        self.settings, self.is_exact = settings, is_exact
        self.first: dict[str, float] = {}
        self.negative_kl = 0
        self.best: list[float] = []  # score and held-out score of the best evaluation
        self.over = ""  # how the last evaluation found the policy over-optimised

    def state(self) -> dict[str, Any]:
        return {"first": self.first, "negative_kl": self.negative_kl, "best": self.best}

    def restore(self, state: dict[str, Any]) -> None:
        self.first, self.negative_kl, self.best = (
            state["first"],
            state["negative_kl"],
            state["best"],
        )

    def _share(self, name: str, numbers: Mapping[str, float]) -> float:
        """A figure as a share of its first value; not a number where there is none."""
        return numbers.get(name, math.nan) / max(self.first.get(name, math.nan), 1e-9)

    @property
    def first_entropy(self) -> float:
        return self.first.get("policy/entropy", math.nan)

    def alarms(self, update: int, numbers: Mapping[str, float]) -> dict[str, float]:
        """`alarm/name`: 1 for each that rings at this update (counted from 1).

        An update whose steps were all skipped has no figures of its losses: those ring nothing."""
        numbers = defaultdict(lambda: math.nan, numbers)
        for name in FROM_THE_START:
            if math.isfinite(numbers[name]):
                self.first.setdefault(name, numbers[name])
        self.negative_kl = self.negative_kl + 1 if numbers["objective/kl"] < 0 else 0
        rings = {
            "negative_kl": self.negative_kl >= NEGATIVE_KL_RUN,
            "first_ratio": self._first_ratio_is_off(numbers),
            "explained_variance": update > YOUNG and numbers["val/explained_variance"] < 0,
            "clip_fraction": numbers["policy/clipfrac"] > CLIPPED,
            "low_entropy": numbers["policy/entropy"] < LOW_ENTROPY * self.first_entropy,
            "eos_rate": numbers["response/eos_rate"] < self.first["response/eos_rate"] - EOS_DROP,
            "length_doubled": self._share("response/length", numbers) > LENGTH_GROWN,
            "length_halved": self._share("response/length", numbers) < LENGTH_SHRUNK,
            "distinct_collapsed": self._share("response/distinct_2", numbers) < DISTINCT_SHRUNK,
        }
        return {f"alarm/{name}": 1.0 for name, is_so in rings.items() if is_so}

    def _first_ratio_is_off(self, numbers: Mapping[str, float]) -> bool:
        if self.is_exact:
            return numbers["policy/first_ratio_deviation"] > FIRST_RATIO_OF_ANY
        return numbers["policy/first_ratio_mean"] > FIRST_RATIO_MEAN

    def over_optimised(self, score: float, held_out: float, error: float) -> dict[str, float]:
        """Rings when the score is up while a reward model that does not train is down.

        Compared with the evaluation at which the latter was at its best; `error` is one standard
        error of its mean.
        """
        if not self.best or held_out > self.best[1]:
            self.best = [score, held_out]
        then_score, then_held_out = self.best
        is_so = score > then_score and held_out < then_held_out - error
        self.over = ""
        if is_so:
            self.over = (
                f"score {then_score:.2f} to {score:.2f}, by the held-out reward model "
                f"{then_held_out:.2f} to {held_out:.2f}"
            )
        return {"alarm/over_optimised": 1.0} if is_so else {}

    def guard(self, numbers: Mapping[str, float]) -> None:
        """Raises Paused by name when the settings say that this is too far."""
        settings = self.settings
        wrong = [name for name, value in numbers.items() if not math.isfinite(value)]
        if wrong:
            raise Paused("not_finite", f"{', '.join(wrong)} is not a number")
        kl, identical = numbers["objective/kl"], numbers["response/identical"]
        entropy = numbers.get("policy/entropy", math.nan) / max(self.first_entropy, 1e-9)
        length = self._share("response/length", numbers)
        distinct = self._share("response/distinct_2", numbers)
        reasons = {
            "kl_limit": (
                kl > settings.kl_limit > 0,
                f"KL per answer is {kl:.1f} nats, the limit is {settings.kl_limit:g}",
            ),
            "entropy_collapse": (
                entropy < settings.min_entropy,
                f"entropy is {entropy:.0%} of its start",
            ),
            "length_blowup": (
                length > settings.max_length > 0,
                f"answers are {length:.1f} times as long as at the start",
            ),
            "length_halved": (
                length < settings.min_length,
                f"answers are {length:.2f} times as long as at the start, the limit is "
                f"{settings.min_length:g}",
            ),
            "distinct_collapsed": (
                distinct < settings.min_distinct,
                f"distinct-2 is {distinct:.2f} times that of the start, the limit is "
                f"{settings.min_distinct:g}",
            ),
            "over_optimised": (settings.stop_over_optimised and bool(self.over), self.over),
            "identical_outputs": (
                identical > settings.max_identical > 0,
                f"{identical:.0%} of the prompts got the same answer",
            ),
        }
        for reason, (is_so, detail) in reasons.items():
            if is_so:
                raise Paused(reason, detail)
