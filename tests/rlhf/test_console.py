"""What an operator sees where it is decided upon: names, staleness, trouble, and what differs."""

import re

import pytest

from annotate.models import Policy, Ranking, Withdrawal
from rlhf.data.snapshot import pseudonym
from rlhf.models import Checkpoint, RewardModel, Round, Run, Snapshot
from rlhf.registry.judgements import evaluation_page
from rlhf.registry.lineage import lineage_of
from rlhf.rounds.charts import figures_of
from rlhf.rounds.launch import launch_round
from rlhf.rounds.preflight import preflight, recipe_for, recipe_of_size
from rlhf.rounds.report import report_on
from rlhf.rounds.settings import Launch
from rlhf.rounds.side_by_side import colours, differences, figures
from rlhf.stages.chart import COLOURS, colours_of
from tests.rlhf.test_pages import compared, running_ppo, write_metrics  # noqa: F401 - fixtures

pytestmark = pytest.mark.django_db


@pytest.fixture
def reward_model(round) -> RewardModel:
    run = round.runs.get(kind=Run.Kind.REWARD)
    made = Checkpoint.objects.create(
        run=run, step=1, folder="rm", manifest_sha256="c" * 64, is_final=True
    )
    return RewardModel.objects.create(project=round.project, checkpoint=made, accuracy=0.6)


def snapshot_of(run: Run, labeler) -> Snapshot:
    made = Snapshot.objects.create(
        project=run.project, run=run, sha256="d" * 64, counts={"train": 7}
    )
    made.rankings.set(Ranking.objects.filter(labeler=labeler))
    return made


def test_the_card_of_a_reward_model_names_its_labelers(reward_model, alice, bob, browse, olga):
    shares = {alice: 0.74, bob: 0.29}
    values = {f"reward/accuracy/labeler/{pseudonym(who)}": share for who, share in shares.items()}
    name = pseudonym(bob)
    values |= {f"reward/accuracy_{end}/labeler/{name}": at for end, at in zip(
        ("low", "high"), (0.2, 0.4), strict=True)}  # fmt: skip
    write_metrics(reward_model.checkpoint.run, (9, "final", values))
    url = f"/p/cooking/models/{reward_model.checkpoint_id}/"
    page = browse(olga).get(url).content.decode()
    table = page[page.index("Accuracy by labeler") :]
    assert table.index("bob") < table.index("alice"), "the one it meets least comes first"
    assert '29% <span class="muted">(20%–40%)' in table and "74%" in table
    assert name not in page


def test_lineage_says_stale_and_who_has_withdrawn(round, trained, alice, bob, browse, olga):
    snapshot_of(round.runs.get(position=0), alice)
    assert lineage_of(trained)[0]["stale_by"] == []
    Withdrawal.withdraw(round.project, person=bob, by=olga)
    Withdrawal.withdraw(round.project, person=alice, by=olga, reason="moved on")
    mine, base = lineage_of(trained)
    assert [each["username"] for each in mine["stale_by"]] == ["alice"] and not base["stale_by"]
    page = browse(olga).get(f"/p/cooking/policies/{trained.pk}/").content.decode()
    assert "who withdrew it on" in page and "(moved on)" in page and ">stale<" in page


def test_a_judge_that_nobody_withdrawn_has_taught_comes_first(
    project, base, labels, reward_model, alice, olga
):
    """A round without a reward model of its own is judged by an earlier one."""
    newer = launch_round(project, Launch(base=base, recipe="tiny"), by=olga)
    made = Checkpoint.objects.create(
        run=newer.runs.get(kind=Run.Kind.REWARD), step=1, folder="rm2", manifest_sha256="e" * 64,
        is_final=True,
    )  # fmt: skip
    stale = RewardModel.objects.create(project=project, checkpoint=made)
    third = launch_round(project, Launch(base=base, recipe="tiny", stages=["sft"]), by=olga)
    find = RewardModel.objects.judge_of
    assert find(third) == stale, "the newest"
    assert find(third, stale_runs=[made.run_id]) == reward_model
    both = [made.run_id, reward_model.checkpoint.run_id]
    assert find(third, stale_runs=both) == stale, "rather than nobody; and it is said"
    assert find(newer, stale_runs=both) == stale


@pytest.mark.parametrize(
    ("reason", "first"),
    [
        ("ConfigError: train.batch_size must be at least 1", "Clone settings"),
        ("RuntimeError: the disk went away", "Resume"),
    ],
)
def test_a_refused_config_is_cloned_and_not_resumed(round, browse, olga, reason, first):
    stopped = {"state": "failed", "reason": reason, "log_tail": "one\ntwo"}
    round.runs.filter(position=0).update(**stopped)
    page = browse(olga).get("/p/cooking/rounds/1/").content.decode()
    buttons = re.findall(r'class="button primary"[^>]*>\s*<svg.*?</svg>\s*([\w ]+)<', page, re.S)
    assert buttons == [first]
    assert '<div class="log-end"><pre class="log">one' in page, "the box opens at its end"


def test_a_round_has_a_name_and_a_note(round, browse, olga, mallory):
    client = browse(olga)
    client.post(
        "/p/cooking/rounds/1/",
        {"act": "name", "name": "Shorter", "note": "As asked.", "tags": "brief, for Ann,, brief"},
    )
    page = client.get("/p/cooking/rounds/").content.decode()
    assert "Shorter" in page and "As asked." in page and "?tag=for+Ann" in page
    assert "Round 1: Shorter" in client.get("/p/cooking/rounds/1/").content.decode()
    said = client.post("/p/cooking/rounds/1/", {"act": "name", "name": "x" * 61}, follow=True)
    assert "60 characters" in said.content.decode()
    round.refresh_from_db()
    assert (round.name, round.tags) == ("Shorter", ["brief", "for Ann"])
    other = browse(mallory).post("/p/cooking/rounds/1/", {"act": "name", "name": "Mine"})
    assert other.status_code == 404


PAGES = [
    "rounds/1/charts/",
    "rounds/1/samples/",
    "rounds/compare/?round=1",
    "models/",
    "evaluation/",
]


@pytest.mark.parametrize("page", [*PAGES, "model"])
def test_every_page_says_stale(round, trained, compared, bob, browse, olga, page):  # noqa: F811
    Checkpoint.objects.update(is_final=True)
    checkpoint = trained.training.checkpoint
    snapshot_of(checkpoint.run, bob)
    url = f"/p/cooking/models/{checkpoint.pk}/" if page == "model" else f"/p/cooking/{page}"
    chip = 'class="chip warn">stale</span>'
    assert chip not in browse(olga).get(url).text
    Withdrawal.withdraw(round.project, person=bob, by=olga)
    assert chip in browse(olga).get(url).text


def test_the_list_of_rounds_refreshes_while_one_is_under_way(round, browse, olga):
    url = "/p/cooking/rounds/"
    assert 'hx-select="#rounds"' in browse(olga).get(url).content.decode()
    round.runs.update(state="succeeded")
    assert "hx-trigger" not in browse(olga).get(url).content.decode()


def test_home_names_the_rounds_in_trouble(project, base, labels, round, browse, olga):
    def home() -> str:
        return browse(olga).get("/p/cooking/").content.decode()

    assert "Round 1 failed" not in home()
    round.runs.filter(position=0).update(state="failed", reason="out of luck")
    assert "Round 1 failed" in home() and "SFT: out of luck" in home()
    newer = launch_round(project, Launch(base=base, recipe="tiny"), by=olga)
    assert "Round 1 failed" not in home(), "somebody has seen it, and launched another"
    newer.runs.filter(position=0).update(state="paused", reason="length halved: 0.15 times")
    launch_round(project, Launch(base=base, recipe="tiny"), by=olga)
    assert "Round 2 paused" in home() and "length halved" in home()


def test_a_round_with_other_stages_hides_no_difference_of_the_others(project, base, labels, olga):
    def launched(**changes) -> Round:
        return launch_round(project, Launch(base=base, recipe="tiny", **changes), by=olga)

    slow = {"ppo": {"train": {"kl_coef": 0.5}}}
    one, two, third = launched(), launched(overrides=slow), launched(stages=["sft"])
    found = {
        each.name: each.values for each in differences([report_on(r) for r in (one, two, third)])
    }
    assert found["PPO kl coef"][1:] == ["0.5", "–"]
    assert "SFT epochs" not in found and "PPO clip range" not in found


def test_a_round_keeps_its_colour_beside_any_others(project, base, labels, olga):
    rounds = [launch_round(project, Launch(base=base, recipe="tiny"), by=olga) for _ in range(3)]
    assert colours(rounds) == {1: 0, 2: 1, 3: 2} and colours(rounds[2:]) == {3: 2}
    twins = [Round(number=1), Round(number=9)]
    assert len(set(colours(twins).values())) == 2
    for round in rounds[1:]:
        write_metrics(round.runs.get(position=0), (1, "train", {"loss": 1.0}))
    [loss] = [each for each in figures([report_on(r) for r in rounds]) if each["series"]]
    assert [(s["label"], s["colour"]) for s in loss["series"]] == [("Round 2", 1), ("Round 3", 2)]


def test_beyond_the_colours_there_are_each_number_has_its_own_place_in_them():
    assert list(colours_of(range(1, 20)).values()) == [n % COLOURS for n in range(19)]
    assert colours_of([3, 12]) == {3: 2, 12: 3}, "the same as among others"


def test_any_number_of_rounds_stand_side_by_side(project, base, labels, browse, olga):
    """A colour comes twice from the ninth on; the line that has it second is dashed."""
    rounds = [
        launch_round(project, Launch(base=base, recipe="tiny", stages=["sft"]), by=olga)
        for _ in range(9)
    ]
    for round in rounds:
        write_metrics(round.runs.get(position=0), (1, "train", {"loss": 1.0}))
    query = "&".join(f"round={n}" for n in range(1, 10))
    page = browse(olga).get(f"/p/cooking/rounds/compare/?{query}").content.decode()
    assert page.count('scope="col"><a') == 9
    [loss] = [each for each in figures([report_on(r) for r in rounds]) if each["series"]]
    lines = {(line["colour"], line["dashed"]) for line in loss["series"]}
    assert len(lines) == 9 and [line["dashed"] for line in loss["series"]] == [False] * 8 + [True]


def test_each_diamond_has_its_name_its_interval_and_the_colour_of_its_policy(
    project,
    trained,
    base,
    prompts,
    alice,
    running_ppo,  # noqa: F811
):
    ppo = Policy.objects.get(name="r1-ppo")
    for prompt in prompts[16:]:
        ranking = Ranking.objects.create(prompt=prompt, labeler=alice)
        for place, policy in enumerate((ppo, trained), start=1):
            said = prompt.completions.create(policy=policy, text=f"{policy}", source="evaluation")
            ranking.placements.create(completion=said, place=place)
    drawing = evaluation_page(project)["over_optimisation"]
    score, people = drawing["series"]
    assert (score["label"], people["label"]) == ("r1-ppo", "r1-ppo, people")
    assert score["colour"] == people["colour"] == (ppo.pk - 1) % COLOURS
    assert people["diamond"] and people["right"]
    [dot] = [row["values"] for row in drawing["rows"] if people["metric"] in row["values"]]
    rate, low, high = (dot[people["metric"] + end] for end in ("", " low", " high"))
    assert rate == high == 1.0 and 0.4 < low < 0.8


def test_small_numbers_are_not_zero(round):
    run = round.runs.get(kind=Run.Kind.PPO)
    write_metrics(run, (1, "train", {"objective/kl": 3.2e-6}))
    [figure] = [each for each in figures_of(run) if each.chart.title.startswith("KL")]
    assert figure.captions == ["KL: 3.2e-06 at step 1"]


@pytest.mark.parametrize(
    ("weights", "recipe"), [(0, "tiny"), (4e6, "tiny"), (135e6, "small"), (7e9, "large")]
)
def test_the_recipe_is_chosen_by_the_size_of_the_base(weights, recipe):
    assert recipe_of_size(weights) == recipe


def test_a_recipe_for_another_size_is_offered_last_and_warned_of(
    project, base, labels, browse, olga, monkeypatch
):
    monkeypatch.setattr("rlhf.rounds.preflight.parameters_of", lambda folder: 135_000_000)
    page = browse(olga).get("/p/cooking/rounds/new/").content.decode()
    assert re.search(r'name="recipe" value="small" checked', page)
    assert "recipe_of_another_size" not in page
    page = browse(olga).get("/p/cooking/rounds/new/?recipe=tiny").content.decode()
    assert "135,000,000 weights. Choose “small”." in page
    assert not preflight(project, base).errors and recipe_for("x") == "small"
