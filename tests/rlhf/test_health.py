"""Whether a reward model can be trusted, said on its page and on its round's."""

import pytest

from rlhf.data.snapshot import pseudonym
from rlhf.models import Run
from rlhf.registry.health import Health, health_of
from tests.rlhf.test_pages import write_metrics

pytestmark = pytest.mark.django_db
GOOD = {
    "accuracy": 0.74, "low": 0.68, "high": 0.8, "longer": 0.55, "ceiling": 0.85, "by_length": 0.1,
    "off_by": 0.04, "comparisons": 200,
}  # fmt: skip


@pytest.mark.parametrize(
    ("figures", "warned"),
    [
        ({}, []),
        ({"low": 0.5}, ["no better than chance", "Choosing the longer answer"]),
        ({"low": None, "high": None}, ["no better than chance", "Choosing the longer answer"]),
        ({"longer": 0.7}, ["Choosing the longer answer may be right as often"]),
        ({"longer": 0.3}, ["Choosing the shorter answer may be right as often"]),
        ({"longer": None, "by_length": None}, []),
        ({"by_length": -0.6}, ["it pays for short answers"]),
        ({"by_length": 0.5}, ["it pays for long answers"]),
    ],
)
def test_it_is_measured_by_chance_by_length_and_by_what_its_score_follows(figures, warned):
    found = Health(**{**GOOD, **figures}).warnings
    assert len(found) == len(warned)
    assert all(words in said for words, said in zip(warned, found, strict=True))


def test_the_round_says_it_with_the_labelers_by_name(round, browse, olga, bob):
    run = round.runs.get(kind=Run.Kind.REWARD)
    page = "/p/cooking/rounds/1/"
    assert "be trusted" not in browse(olga).get(page).content.decode()
    values = {
        "reward/accuracy": 0.55, "reward/accuracy_low": 0.45, "reward/accuracy_high": 0.64,
        "reward/longer_wins": 0.2, "reward/ceiling": 0.9, "data/comparisons": 120,
        "reward/score_length_correlation": -0.8, "reward/calibration_error": 0.1,
        f"reward/accuracy/labeler/{pseudonym(bob)}": 0.29,
    }  # fmt: skip
    write_metrics(run, (9, "final", values))
    html = " ".join(browse(olga).get(page).content.decode().split())
    said = html[html.index("Can the reward model be trusted?") :]
    assert '<strong>55%</strong> <span class="muted">(45%–64%) of 120 held-out' in said
    assert "Choosing the shorter answer</dt><dd>80%" in said and "correlation -0.80" in said
    assert "it pays for short answers" in said and ">bob</a>" in said and "29%" in said


def test_what_held_nothing_out_or_rewards_nothing_has_no_health(round):
    assert health_of(round.runs.get(kind=Run.Kind.REWARD)) is None
    ppo = round.runs.get(kind=Run.Kind.PPO)
    write_metrics(ppo, (9, "final", {"reward/accuracy": 1.0}))
    assert health_of(ppo) is None
