import numpy as np
import pytest

from rlhf.learning.contract import bootstrap
from rlhf.learning.contract.bootstrap import draws, interval


def test_the_interval_of_a_mean_is_as_wide_as_theory_says():
    values = np.random.default_rng(1).normal(size=400)
    low, high = interval(lambda drawn: drawn @ values / 400, 400, resamples=4000)
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


@pytest.mark.parametrize("block", [1, 7, 50, 10**6])
def test_whatever_fits_into_memory_every_resample_draws_as_many_prompts(monkeypatch, block):
    monkeypatch.setattr(bootstrap, "BLOCK", block)
    blocks = list(draws(7, resamples=20))
    assert all(each.size <= max(block, 7) for each in blocks)
    drawn = np.concatenate(blocks)
    assert drawn.shape == (20, 7) and (drawn.sum(1) == 7).all()
    assert len(np.unique(drawn, axis=0)) > 1


def test_the_same_seed_draws_the_same():
    one, again = (np.concatenate(list(draws(9, resamples=5, seed=3))) for _ in range(2))
    assert (one == again).all()
