"""Intervals that draw whole prompts: what was said of one prompt resembles each other, and drawn
singly it would make an interval far too narrow."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

BLOCK = 1_000_000  # numbers in memory at once, whatever the number of prompts


def draws(prompts: int, *, resamples: int, seed: int = 0) -> Iterator[np.ndarray]:
    """How often each prompt is drawn, a resample a row, in blocks of rows."""
    random = np.random.default_rng(seed)
    rows = max(1, BLOCK // prompts)
    for done in range(0, resamples, rows):
        count = min(rows, resamples - done)
        drawn_RC = random.integers(0, prompts, (count, prompts))
        drawn_RC += prompts * np.arange(count)[:, None]
        yield np.bincount(drawn_RC.ravel(), minlength=count * prompts).reshape(count, prompts)


def interval(
    figure: Callable[[np.ndarray], np.ndarray], prompts: int, *, resamples: int, seed: int = 0
) -> tuple[float, float]:
    """The 95 % interval of a figure. `figure`: how often each prompt counts, a resample a row →
    its value in each."""
    values = [figure(drawn_RC) for drawn_RC in draws(prompts, resamples=resamples, seed=seed)]
    low, high = np.quantile(np.concatenate(values), [0.025, 0.975])
    return float(low), float(high)
