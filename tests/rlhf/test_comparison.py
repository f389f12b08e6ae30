import re
from threading import Event

import pytest
from django.utils import timezone

from annotate.models import Ranking
from rlhf.models import Checkpoint, Metric, RewardModel, Round, Run
from rlhf.models.leases import claim
from rlhf.rounds.charts import figures_of
from rlhf.rounds.launch import launch_round
from rlhf.rounds.settings import Launch
from rlhf.rounds.side_by_side import compare_rounds
from rlhf.runs.supervisor import supervise


def measure(round: Round, kind: str, split: str, *values: float) -> None:
    run = round.runs.get(kind=kind)
    for step, value in enumerate(values, start=1):
        Metric.objects.create(
            run=run, step=step, split=split, values={"loss": value}, time=timezone.now()
        )


@pytest.fixture
def other(project, round, base, olga) -> Round:
    changes = {"sft": {"train": {"epochs": 9}}}
    stages = ["sft", "dpo"]
    return launch_round(
        project, Launch(base=base, recipe="tiny", stages=stages, overrides=changes), by=olga
    )


def test_only_what_differs_between_rounds_is_named(round, other):
    rows = {row.name: row.values for row in compare_rounds([round, other])["differences"]}
    assert rows == {
        "Stages": ["SFT → reward model → PPO → evaluation", "SFT → DPO → evaluation"],
        "SFT epochs": ["5", "9"],
    }


def test_filters_and_teachers_that_one_round_lacks_are_named(round, other, alice, olga):
    labelers = {"accepted_only": True, "labelers": [alice.pk]}
    Round.objects.filter(pk=other.pk).update(filters=labelers)
    made = Checkpoint.objects.create(
        run=round.runs.get(kind="reward"), step=1, folder="rm", manifest_sha256="c" * 64,
        is_final=True,
    )  # fmt: skip
    teacher = RewardModel.objects.create(project=round.project, checkpoint=made, accuracy=0.7)
    Round.objects.filter(pk=other.pk).update(reward_model=teacher)
    other.refresh_from_db()
    rows = {row.name: row.values for row in compare_rounds([round, other])["differences"]}
    assert rows["Labels: accepted only"] == ["–", "True"]
    assert rows["Labels: labelers"] == ["–", str(alice)]
    assert rows["Reward model"] == ["–", teacher.name]


def test_the_curves_of_rounds_share_a_drawing_held_out_before_training(round, other):
    measure(round, "sft", "train", 3.0, 2.0)
    measure(round, "sft", "test", 2.5)
    measure(other, "sft", "train", 3.5)
    [figure] = compare_rounds([round, other])["figures"]
    assert figure["title"] == "SFT loss"
    assert [(line["label"], line["split"]) for line in figure["series"]] == [
        ("Round 1", "test"),
        ("Round 2", "train"),
    ]
    assert figure["captions"] == ["Round 1: 2.5 at step 1", "Round 2: 3.5 at step 1"]
    sfts = [each.runs.get(kind="sft").pk for each in (round, other)]
    assert [line["run"] for line in figure["series"]] == sfts, "each asks its own run for numbers"


def test_the_page_compares_what_was_chosen(project, round, other, olga, browse):
    measure(round, "sft", "train", 3.0)
    page = browse(olga).get("/p/cooking/rounds/compare/", {"round": [1, 2, "x"]}).text
    assert "SFT epochs" in page and 'class="plot"' in page
    assert "SFT epochs" not in browse(olga).get("/p/cooking/rounds/compare/").text


@pytest.mark.django_db(transaction=True)
def test_the_accuracy_of_a_reward_model_is_drawn_beside_peoples_agreement(evaluated):
    """As it was in what the model learnt from: rankings that come later change no round's page."""
    run = evaluated.round.runs.get(kind=Run.Kind.REWARD)
    [level] = figures_of(run)[0].levels
    assert level.value == 1.0
    assert re.fullmatch(r"people \(\d\d%–100%\) of \d+", level.label)
    Ranking.objects.all()[0].placements.update(place=2)
    assert [level.value for level in figures_of(run)[0].levels] == [1.0]
    run.snapshot.rankings.clear()
    [level] = figures_of(run)[0].levels
    assert (level.value, level.label) == (1.0, "people (no interval)"), "nothing is left to tell"
    assert figures_of(evaluated.round.runs.get(kind=Run.Kind.SFT))[0].levels == []


@pytest.mark.django_db(transaction=True)
def test_where_nobody_ranked_twice_there_is_no_agreement_to_draw(round, alice, fake_trainer):
    Ranking.objects.exclude(labeler=alice).delete()
    while lease := claim():
        supervise(lease, Event())
    assert figures_of(round.runs.get(kind=Run.Kind.REWARD))[0].levels == []
