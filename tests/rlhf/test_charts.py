"""The charts of a round: which figures are drawn, beside what, and how much is sent."""

import json
import re

import pytest

from rlhf.models import Metric, Round, Run
from rlhf.rounds.charts import MOST_NUMBERS, choices_of, figures_of, in_columns, rows_of
from rlhf.rounds.launch import launch_round
from rlhf.rounds.settings import Launch
from rlhf.views.panels import MOST_PANELS
from tests.rlhf.test_pages import running, write_metrics  # noqa: F401 - fixtures

pytestmark = pytest.mark.django_db
PAGE = "/p/cooking/rounds/1/charts/"


@pytest.fixture
def ppo(round) -> Run:
    """A training with many figures, an alarm and an interval."""
    run = round.runs.get(kind=Run.Kind.PPO)
    rows = [
        (
            step,
            "train",
            {
                "objective/kl": step / 7,
                "objective/scores": 1.0,
                "policy/clipfrac": 0.1,
                "eta": 3,
                "alarm/length_halved": 1.0,
            },
        )
        for step in range(1, 6)
    ]
    interval = {"policy/clipfrac": 0.5, "policy/clipfrac_low": 0.4, "policy/clipfrac_high": 0.6}
    write_metrics(run, *rows, (5, "final", interval))
    Run.objects.filter(pk=run.pk).update(
        step=5, total_steps=10, state="paused", alarms={"length_halved": [3, 5]}
    )
    run.refresh_from_db()
    return run


def definitions(page: str) -> dict[str, dict]:
    """Title → what the script draws, of every figure of a page."""
    found = re.findall(r'<script type="application/json">(.*?)</script>', page)
    return {each["title"]: each for each in map(json.loads, found) if "series" in each}


def test_every_recorded_figure_can_be_chosen_and_is_remembered(round, ppo, browse, olga):
    client = browse(olga)
    page = client.get(PAGE).content.decode()
    offered = re.findall(r'name="panel"\s+value="([^"]+)"', page)
    assert {"ppo:policy/clipfrac", "ppo:eta", "ppo:objective/kl"} <= set(offered)
    assert not [each for each in offered if "alarm" in each or each.endswith(("_low", "_high"))]
    assert "policy/clipfrac" not in definitions(page)
    chosen = {"panel": ["ppo:policy/clipfrac", "ppo:gone", "nonsense", "x" * 999 + ":y"]}
    answer = client.post(f"{PAGE}?baseline=7", chosen)
    assert answer.url == f"{PAGE}?baseline=7"
    drawn = definitions(client.get(PAGE).content.decode())
    lines = [(line["split"], line["run"]) for line in drawn["policy/clipfrac"]["series"]]
    assert sorted(lines) == [("final", ppo.pk), ("train", ppo.pk)] and "gone" not in drawn
    columns = client.get(f"/p/cooking/runs/{ppo.pk}/metrics.json").json()["columns"]
    assert columns["train"]["policy/clipfrac"] == [0.1] * 5
    assert columns["final"]["policy/clipfrac low"] == [0.4], "with its interval"
    client.post(PAGE, {"panel": [f"ppo:{n}" for n in range(99)]})
    assert len(client.session["panels"]) == MOST_PANELS


def test_figures_are_grouped_by_what_stands_before_the_slash(ppo):
    groups = {group: [each.name for each in names] for group, names in choices_of(ppo, ["ppo:eta"])}
    assert groups["policy"] == ["policy/clipfrac"] and groups["training"] == ["eta"]
    [eta] = dict(choices_of(ppo, ["ppo:eta"]))["training"]
    assert eta.is_chosen


def test_a_baseline_is_drawn_beside_the_round(project, round, ppo, base, browse, olga):
    other = launch_round(project, Launch(base=base, recipe="tiny"), by=olga)
    write_metrics(other.runs.get(kind=Run.Kind.PPO), (1, "train", {"objective/kl": 9.0}))
    client = browse(olga)
    page = client.get(f"{PAGE}?baseline=2").content.decode()
    kl = definitions(page)["KL to the SFT policy"]["series"]
    runs = [ppo.pk, other.runs.get(kind=Run.Kind.PPO).pk]
    assert [line["run"] for line in kl] == runs and kl[1]["label"] == "Round 2, KL"
    [sources] = re.findall(r'id="sources" type="application/json">(.*?)</script>', page)
    assert json.loads(sources)[str(runs[1])] == f"/p/cooking/runs/{runs[1]}/metrics.json"
    for nonsense in ("1", "99", "x", ""):
        page = client.get(f"{PAGE}?baseline={nonsense}").content.decode()
        assert len(definitions(page)["KL to the SFT policy"]["series"]) == 1, nonsense


def test_alarms_are_marks_in_the_charts(ppo):
    [kl] = [each for each in figures_of(ppo) if each.chart.title.startswith("KL")]
    [mark] = kl.definition["marks"]
    assert (mark["first"], mark["last"]) == (3, 5) and "half as long" in mark["label"]


def test_columns_hold_what_rows_hold():
    rows = [
        {"step": 1, "split": "train", "values": {"a": 1.0}},
        {"step": 1, "split": "test", "values": {"b": 2.0}},
        {"step": 2, "split": "train", "values": {"b": 3.0}},
    ]
    assert in_columns(rows) == {
        "train": {"step": [1, 2], "a": [1.0, None], "b": [None, 3.0]},
        "test": {"step": [1], "b": [2.0]},
    }
    assert in_columns([]) == {}


def test_a_window_is_sent_with_every_step_and_no_answer_is_large(running, browse, olga):  # noqa: F811
    """However many figures were chosen."""
    names = [f"speed/{n}" for n in range(MOST_PANELS)]
    values = dict.fromkeys([*names, "loss"], 0.123456789012)
    Metric.objects.filter(run=running).delete()
    write_metrics(running, *((step, "train", values) for step in range(1, 3001)))
    Run.objects.filter(pk=running.pk).update(step=3000, total_steps=3000)
    client, url = browse(olga), f"/p/cooking/runs/{running.pk}/metrics.json"
    client.post(PAGE, {"panel": [f"sft:{name}" for name in names]})
    whole = client.get(url)
    assert len(whole.content) < 200_000
    train = whole.json()["columns"]["train"]
    assert len(train["step"]) * len(train) <= MOST_NUMBERS * 1.2 and len(train["step"]) > 100
    assert train["loss"][0] == 0.123457, "no more digits than can be seen"
    window = client.get(f"{url}?after=999&last=1100").json()["columns"]["train"]
    assert window["step"] == list(range(1000, 1101))


def test_the_splits_of_a_run_are_found_without_reading_it(running, django_assert_num_queries):  # noqa: F811
    write_metrics(running, (9, "final", {"loss": 1.0}))
    with django_assert_num_queries(4):
        assert Metric.objects.splits_of(running) == ["final", "test", "train"]
    assert Metric.objects.splits_of(Round.objects.get().runs.get(kind="ppo")) == []
    assert [row["split"] for row in rows_of(running, more=["loss"]) if row["step"] == 9] == [
        "final"
    ]
