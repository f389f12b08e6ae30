"""Every alarm rings for its own reason, and for no other."""

import pytest

from rlhf.learning.contract.config import recipe
from rlhf.learning.contract.hyperparameters import COLLAPSED
from rlhf.learning.contract.kinds.ppo import PPO
from rlhf.learning.ppo.monitor import Monitor
from rlhf.learning.run.run_folder import Paused

WELL = {
    "objective/kl": 1.0,
    "policy/first_ratio_deviation": 1e-6,
    "policy/first_ratio_mean": 1e-7,
    "val/explained_variance": 0.5,
    "policy/clipfrac": 0.1,
    "policy/entropy": 2.0,
    "response/eos_rate": 0.9,
    "response/length": 20.0,
    "response/distinct_2": 0.8,
    "response/identical": 0.0,
}


def rings(watch, update, **numbers):
    named = {name.replace("__", "/"): value for name, value in numbers.items()}
    return {name.removeprefix("alarm/") for name in watch.alarms(update, {**WELL, **named})}


def test_a_run_that_goes_well_rings_nothing():
    watch = Monitor(PPO())
    assert not any(rings(watch, update) for update in range(1, 40))


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("first_ratio", {"policy__first_ratio_deviation": 2e-3}),
        ("clip_fraction", {"policy__clipfrac": 0.31}),
        ("low_entropy", {"policy__entropy": 0.49}),
        ("eos_rate", {"response__eos_rate": 0.69}),
        ("explained_variance", {"val__explained_variance": -0.1}),
        ("length_doubled", {"response__length": 40.1}),
        ("length_halved", {"response__length": 9.9}),
        ("distinct_collapsed", {"response__distinct_2": 0.39}),
    ],
)
def test_an_alarm_rings_by_name(name, numbers):
    watch = Monitor(PPO())
    assert rings(watch, 1) == set()
    assert rings(watch, 21, **numbers) == {name}
    assert rings(watch, 22) == set()


def test_in_mixed_precision_the_mean_of_the_first_ratios_counts_not_a_single_one():
    watch = Monitor(PPO(), is_exact=False)
    rounding = {"policy__first_ratio_deviation": 0.2, "policy__first_ratio_mean": 0.04}
    assert rings(watch, 1, **rounding) == set()
    assert rings(watch, 2, **{**rounding, "policy__first_ratio_mean": 0.06}) == {"first_ratio"}


def test_a_young_critic_may_explain_nothing():
    assert rings(Monitor(PPO()), 20, val__explained_variance=-0.1) == set()


def test_kl_below_zero_rings_at_the_fifth_time_running_even_across_a_restart():
    watch = Monitor(PPO())
    assert not any(rings(watch, update, objective__kl=-0.1) for update in range(1, 5))
    again = Monitor(PPO())
    again.restore(watch.state())
    assert rings(again, 5, objective__kl=-0.1) == {"negative_kl"}
    assert rings(watch, 5) == set()
    assert rings(watch, 6, objective__kl=-0.1) == set()


def test_a_score_that_rises_while_another_model_sees_less_is_over_optimisation():
    watch = Monitor(PPO())
    assert watch.over_optimised(0.0, held_out=1.0, error=0.1) == {}
    assert watch.over_optimised(1.0, held_out=2.0, error=0.1) == {}
    assert watch.over_optimised(2.0, held_out=1.95, error=0.1) == {}  # within the noise
    assert watch.over_optimised(0.5, held_out=1.0, error=0.1) == {}  # both are down
    assert watch.over_optimised(3.0, held_out=1.5, error=0.1) == {"alarm/over_optimised": 1.0}


@pytest.mark.parametrize(
    ("reason", "numbers"),
    [
        ("length_halved", {"response/length": 9.9}),
        ("distinct_collapsed", {"response/distinct_2": 0.39}),
    ],
)
def test_the_recipes_pause_by_name_where_answers_collapse(reason, numbers):
    watch = Monitor(PPO(**COLLAPSED))
    watch.alarms(1, WELL)
    watch.guard({**WELL, **{name: value * 1.05 for name, value in numbers.items()}})
    with pytest.raises(Paused, match=reason):
        watch.guard({**WELL, **numbers})
    Monitor(PPO()).guard({**WELL, **numbers})  # who has set no limit is not paused


def test_the_recipes_pause_where_the_score_rises_and_the_held_out_one_falls():
    watch, plain = Monitor(PPO(**COLLAPSED)), Monitor(PPO())
    for each in (watch, plain):
        each.alarms(1, WELL)
        each.over_optimised(0.0, held_out=2.0, error=0.1)
        each.guard(WELL)
        each.over_optimised(1.0, held_out=1.5, error=0.1)
    with pytest.raises(Paused, match=r"over_optimised: score 0.00 to 1.00.* 2.00 to 1.50"):
        watch.guard(WELL)
    plain.guard(WELL)
    watch.over_optimised(1.0, held_out=1.95, error=0.1)
    watch.guard(WELL)


@pytest.mark.parametrize("kind", ["ppo", "rloo"])
@pytest.mark.parametrize("size", ["tiny", "small", "large"])
def test_every_recipe_has_these_limits(kind, size):
    assert COLLAPSED.items() <= recipe(kind, size)["train"].items()


def test_a_number_that_is_none_stops_the_run():
    watch = Monitor(PPO())
    watch.alarms(1, WELL)
    watch.guard(WELL)
    with pytest.raises(Paused, match=r"not_finite: policy/entropy is not a number"):
        watch.guard({**WELL, "policy/entropy": float("nan")})
