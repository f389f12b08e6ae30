"""The operator's console: charts that are worked with, and questions that two clicks answer."""

import csv
import os
import re
from pathlib import Path
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site

# Two rounds that are over: PPO of the first shrank its answers, an alarm rang and people were
# asked; the second is the last one launched, and waits.
WORLD = """
from datetime import timedelta
from math import sin
from django.utils import timezone
from annotate.models import *
from rlhf.models import *
from rlhf.rounds.settings import stage_configs
project = Project.objects.create(name="Console", slug="SLUG")
olga = project.admit(name="olga", role="operator")
alice = project.admit(name="alice", role="labeler")
base = Policy.objects.said_by(project, "base")
base.folder = "models/base"
base.state = "live"
base.save()
now = timezone.now()
for number in (1, 2):
    round = Round.objects.create(
        project=project, number=number, recipe="tiny", base=base, launched_by=olga, filters={},
        name=["Short answers", "Higher KL"][number - 1], tags=["length"],
    )
    overrides = {"ppo": {"train": {"kl_coef": 0.2}}} if number == 2 else {}
    configs = stage_configs(["sft", "reward", "ppo"], "tiny", overrides)
    for position, (kind, config) in enumerate(configs.items()):
        run = Run.objects.create(
            project=project, round=round, kind=kind, position=position, config=config,
            state="succeeded", lease_token=1, launched_by=olga, step=1000, total_steps=1000,
            worker="gpu1:4", slot="gpu1/0", log_tail=f"log of {kind}",
            started_at=now, worked=timedelta(minutes=3), ended_at=now,
        )
        steps = range(1, 1001) if kind == "ppo" else range(1, 40)
        Metric.objects.bulk_create(
            Metric(
                run=run, lease_token=1, step=step, split="train", time=now,
                values={
                    "loss": 2 / step, "objective/scores": step / 200 + sin(step / 9) * number,
                    "objective/kl": step / 100, "policy/entropy": 3 - step / 500,
                    "response/length": 27 - step / 43, "policy/clipfrac": 0.1 * number,
                    "policy/clipfrac_low": 0.05, "policy/clipfrac_high": 0.3,
                },
            )
            for step in steps
        )
        if kind == "reward":
            Metric.objects.create(
                run=run, lease_token=1, step=39, split="test", time=now,
                values={"reward/accuracy": 0.7, "loss": 0.6},
            )
        if kind == "ppo":
            run.alarms = {"length_halved": [600, 1000]}
            run.save()
"""


@pytest.fixture
def world(site: Site) -> str:
    """The address of a project of one's own."""
    slug = f"console-{uuid4().hex[:8]}"
    site.shell(WORLD.replace("SLUG", slug))
    return f"{site.url}/p/{slug}/"


def shot(page: Page, name: str) -> None:
    """For whoever wants to look: SCREENSHOTS names a folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


def figure(page: Page, title: str):
    return page.get_by_role("figure").filter(has=page.get_by_role("heading", name=title))


def hover(page: Page, title: str, share: float) -> None:
    over = figure(page, title).locator(".u-over")
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    page.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] / 2)


def test_the_pointer_reads_every_chart_at_the_same_step(world, sign_in):
    page = sign_in("olga").page
    page.goto(f"{world}rounds/1/charts/")
    score, length = (figure(page, title).locator(".readout") for title in ("PPO score", "Length"))
    expect(length).to_contain_text("length 3.74")
    hover(page, "PPO score", 0.5)
    expect(score).to_contain_text(re.compile("step [45]"))
    step = score.inner_text().split()[1]
    expect(length).to_contain_text(f"step {step} ")
    expect(length).not_to_contain_text("Alarm")
    hover(page, "PPO score", 0.8)
    expect(length).to_contain_text("Alarm: Answers less than half as long")
    shot(page, "charts-1280-light")


def test_a_dragged_window_is_shown_by_all_charts_with_every_step(world, sign_in):
    page = sign_in("olga").page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{world}rounds/1/charts/")
    reset = page.get_by_role("button", name="Reset")
    expect(reset).to_be_disabled()
    hover(page, "PPO score", 0.5)
    page.mouse.down()
    hover(page, "PPO score", 0.6)
    with page.expect_response(lambda answer: "last=" in answer.url):
        page.mouse.up()
    expect(reset).to_be_enabled()
    hover(page, "PPO score", 0.5)
    readout = figure(page, "Length").locator(".readout")
    expect(readout).to_contain_text(re.compile("step (49|5)"))
    before = int(readout.inner_text().split()[1])
    over = figure(page, "PPO score").locator(".u-over").bounding_box()
    page.mouse.move(over["x"] + over["width"] * 0.5 + over["width"] / 95, over["y"] + 20)
    expect(readout).to_contain_text(f"step {before + 1} "), "no step between is left out"
    page.get_by_role("button", name="Later").click()
    hover(page, "PPO score", 0.5)
    expect(readout).not_to_contain_text(re.compile(f"step ({before}|{before + 1}) "))
    reset.click()
    expect(reset).to_be_disabled()


def test_smoothing_and_scale_are_remembered(world, sign_in):
    page = sign_in("olga").page
    page.goto(f"{world}rounds/1/charts/")
    page.get_by_label("Smoothing").fill("0.9")
    page.get_by_label("Log scale").check()
    page.reload()
    expect(page.get_by_label("Smoothing")).to_have_value("0.9")
    expect(page.get_by_label("Log scale")).to_be_checked()
    expect(figure(page, "Length").locator("canvas")).to_be_visible()


@pytest.mark.parametrize("kind", ["csv", "svg", "png"])
def test_a_chart_is_saved_as_a_file(world, sign_in, kind):
    page = sign_in("olga").page
    page.goto(f"{world}rounds/1/charts/")
    expect(figure(page, "Entropy").locator("canvas")).to_be_visible()
    with page.expect_download() as download:
        figure(page, "Entropy").get_by_role("button", name=kind.upper()).click()
    assert download.value.suggested_filename == f"entropy.{kind}"
    content = Path(download.value.path()).read_bytes()
    if kind == "csv":
        head, first, *rows = csv.reader(content.decode().splitlines())
        assert head == ["step", "entropy"] and first == ["1", "2.998"] and len(rows) > 100
    assert (b"<polyline" in content) == (kind == "svg")
    assert content.startswith(b"\x89PNG") == (kind == "png") and len(content) > 500


def test_any_figure_is_found_and_drawn_beside_a_baseline_on_a_phone(world, sign_in):
    page = sign_in("olga", width=360, scheme="dark").page
    page.goto(f"{world}rounds/2/charts/")
    page.get_by_label("Baseline").select_option("Round 1: Short answers")
    page.get_by_role("button", name="Show", exact=True).click()
    page.get_by_text("More metrics").click()
    page.get_by_label("Search metrics").fill("clipfr")
    expect(page.get_by_label("response/length").last).to_be_hidden()
    page.get_by_label("policy/clipfrac").last.check()
    page.get_by_role("button", name="Show selected").click()
    chart = figure(page, "policy/clipfrac")
    expect(chart.locator(".readout")).to_contain_text("training 0.2 (0.05 to 0.3)")
    expect(chart.locator(".readout")).to_contain_text("Round 1, training 0.1")
    shot(page, "charts-360-dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.goto(f"{world}rounds/1/charts/")
    expect(figure(page, "policy/clipfrac").locator("canvas")).to_be_visible()


def test_the_open_tab_is_in_sight_on_a_phone(world, sign_in):
    page = sign_in("olga", width=360).page
    page.goto(f"{world}rounds/1/files/")
    expect(page.get_by_role("link", name="Files", exact=True)).to_be_in_viewport(ratio=1)


def test_a_series_of_one_point_is_seen(world, sign_in):
    page = sign_in("olga").page
    page.goto(f"{world}rounds/1/charts/")
    chart = figure(page, "Reward model accuracy")
    expect(chart.locator(".readout")).to_contain_text("held out 0.7")
    coloured = chart.locator("canvas").evaluate(
        """canvas => {
            const { width, height } = canvas;
            const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
            let count = 0;
            for (let i = 0; i < data.length; i += 4) {
                const [red, green, blue, alpha] = data.slice(i, i + 4);
                if (alpha > 200 && red > 150 && green < 120 && blue < 60) count++;
            }
            return count;
        }"""
    )
    assert coloured > 20, "a dot in the colour of the second line"


# The questions of an operator, from the first page of a project: what they click on, menus
# included, and what they read then.
QUESTIONS: dict[str, tuple[list[str], list[str]]] = {
    "Which run is best?": (["Rounds"], ["Results against", "r1-sft against base", "70%"]),
    "Why did it fail?": (["Round 3"], ["out of luck"]),
    "When will it finish, all stages?": (
        ["Round 4"],
        ["step 10 of 100", "of work left in all: done"],
    ),
    "Which settings had it, and what differs from its parent?": (
        ["Round 2: Higher KL"],
        ["Changes since", "PPO kl coef", "All settings"],
    ),
    "What changed in the data since the last round?": (
        ["Round 2: Higher KL"],
        ["Reward model: rankings", "4 (+2 −0)"],
    ),
    "Is the reward model gamed?": (
        ["Round 1: Short answers"],
        ["Can the reward model be trusted?", "it pays for short answers"],
    ),
    "Do people agree with each other, and with the reward model?": (
        ["Round 1: Short answers"],
        ["People agree with each other", "100%", "Accuracy by labeler", "alice"],
    ),
    "Which labeler is off, and how sure is that?": (["Labelers"], ["Right", "100% (", "–100%)"]),
    "When is labelling done?": (["When labelling is done"], ["4 of 8 answers", "done in 1 day"]),
    "What do people prefer to the live policy?": (
        ["Policies"],
        ["r1-dpo against r1-sft", "People, blind"],
    ),
    "Why was this answer given?": (
        ["Production"],
        ["What is rice?", "r1-sft", "Labels of Round 1", "Prompt and labels"],
    ),
    "Whose labels are in it?": (["r1-sft"], ["Lineage of r1-sft", "alice"]),
    "Which policies did this person teach?": (
        ["Labelers", "Where their data went"],
        ["alice", "r1-sft"],
    ),
    "Who promoted it and why?": (["Policies", "Decisions"], ["olga", "reads better"]),
    "Roll back": (["Policies", "Roll back…"], ["Roll back to base"]),
    "How does the live policy do with guests, against the challenger?": (
        ["Production"],
        ["Live against challenger", "r1-dpo against r1-sft", "of 1 guests", "1 thumb of 1 guest"],
    ),
    "What did it cost (run, label, 1,000 answers)?": (
        ["Costs"],
        ["Per 1,000 answers", "7.50", "Cost each", "0.33", "Round 1", "4.80"],
    ),
    "What is in the queue, and on which machine?": (
        ["Train", "Queue and machines"],
        ["gpu1/0", "Round 4", "Waiting", "Round 5"],
    ),
    "How full are disk and GPU?": (["Train", "Queue and machines"], ["Disk", "GPU 0 memory"]),
    "What is new since I was last here?": ([], ["New to you", "Round 3 failed"]),
}
MORE = """
import json
from django.conf import settings
from annotate.notices.models import News, Notice
from rlhf.data.snapshot import pseudonym
bob = project.admit(name="bob", role="labeler")
first, second = project.rounds.order_by("number")
asked = [
    Prompt.objects.create(
        project=project, messages=[{"role": "user", "content": f"How do I boil {what}?"}]
    )
    for what in ("an egg", "rice")
]
policy = project.policies.create(name="r1-sft", origin="trained", parent=base, folder="runs/x")
rankings = []
for prompt in asked:
    said = [prompt.completions.create(policy=base, text=text) for text in ("One.", "Other.")]
    task = project.tasks.create(prompt=prompt, kind="rank", overlap=4)
    for labeler in (alice, bob):
        work = Assignment.objects.create(
            task=task, labeler=labeler, state="submitted", leased_until=now, ended_at=now,
            active_seconds=60,
        )
        ranking = Ranking.objects.create(prompt=prompt, labeler=labeler, assignment=work)
        for place, completion in enumerate(said, 1):
            ranking.placements.create(completion=completion, place=place)
        rankings.append(ranking)
for round, learnt in ((first, rankings[:2]), (second, rankings)):
    reward = round.runs.get(kind="reward")
    made = Snapshot.objects.create(
        project=project, run=reward, sha256="a" * 64, counts={"train": len(learnt)}
    )
    made.rankings.set(learnt)
sft = first.runs.get(kind="sft")
checkpoint = Checkpoint.objects.create(
    run=sft, lease_token=1, step=39, folder="runs/x", manifest_sha256="b" * 64, is_final=True
)
TrainedPolicy.objects.create(policy=policy, checkpoint=checkpoint)
sft.summary = {"policy": "r1-sft"}
sft.save()
snapshot = Snapshot.objects.create(
    project=project, run=sft, sha256="c" * 64, counts={"train": 1}
)
demonstration = Demonstration.objects.create(prompt=asked[0], labeler=alice, text="Boil it.")
snapshot.demonstrations.set([demonstration])
data = settings.DATA_DIR / sft.folder / "data"
data.mkdir(parents=True, exist_ok=True)
row = {"prompt": asked[0].messages, "completion": "Boil it."}
(data / "train.jsonl").write_text(json.dumps(row))
Metric.objects.create(
    run=first.runs.get(kind="reward"), lease_token=1, step=40, split="final", time=now,
    values={
        "reward/accuracy": 0.6, "reward/accuracy_low": 0.4, "reward/accuracy_high": 0.7,
        "reward/longer_wins": 0.3, "reward/score_length_correlation": -0.8,
        f"reward/accuracy/labeler/{pseudonym(alice)}": 0.7,
    },
)
for number, state in ((3, "failed"), (4, "running"), (5, "queued")):
    round = Round.objects.create(
        project=project, number=number, recipe="tiny", base=base, launched_by=olga, filters={}
    )
    run = Run.objects.create(
        project=project, round=round, kind="sft", config=configs["sft"], state=state,
        lease_token=1, launched_by=olga, reason="out of luck" if state == "failed" else "",
        pinned_to="nowhere",
    )
    if state == "failed":
        said = News(f"{round} failed", f"/p/{project.slug}/rounds/{number}/")
        Notice.tell(project.pk, "run.failed", said)
    if state == "running":
        Run.objects.create(
            project=project, round=round, kind="reward", position=1, config=configs["reward"],
            launched_by=olga, pinned_to="nowhere",
        )
        later = timedelta(hours=1)
        Run.objects.filter(pk=run.pk).update(
            step=10, total_steps=100, slot="gpu1/0", worker="gpu1:4", started_at=now,
            taken_at=now, leased_until=now + later,
        )
        Metric.objects.bulk_create(
            Metric(
                run=run, lease_token=1, step=step, split="train",
                time=now + timedelta(seconds=step), values={"loss": 1.0},
            )
            for step in range(1, 11)
        )
Machine.report(
    "gpu1/0", worker="gpu1:4",
    figures={
        "cpu": 0.4, "cores": 16, "memory": [2**34, 2**35], "disk": [2**39, 2**40],
        "gpus": [{"index": "0", "name": "H200", "load": 0.9, "memory": [2**36, 2**37]}],
    },
)
Evaluation.objects.create(
    policy=policy, opponent=base, judge="gold", win_rate=0.7, low=0.5, high=0.8, prompts=20,
    wins=14, losses=6,
)
base.state = "retired"
base.save()
policy.state = "live"
policy.save()
other = project.policies.create(name="r1-dpo", origin="prompted", state="challenger")
decided = {"project": project, "decided_by": olga}
Promotion.objects.create(policy=base, reason="the first", **decided)
Promotion.objects.create(policy=policy, previous=base, reason="reads better", **decided)
Promotion.objects.create(policy=other, act="challenge", reason="try it", **decided)
gus = project.admit(name="gus", role="guest")
for speaker in (policy, other):
    answer = Conversation.start(project=project, guest=gus, text="What is rice?")
    said = Completion.objects.create(prompt=asked[0], policy=speaker, text="A grain.")
    Message.objects.filter(pk=answer.pk).update(
        state="done", text="A grain.", policy=speaker, completion=said
    )
    Feedback.objects.create(
        message=Message.objects.get(pk=answer.pk), user=gus, thumb_up=True, harvested_at=now
    )
Call.objects.bulk_create(
    Call(
        project=project, policy=policy, use="chat", outcome="answered", first_ms=80, total_ms=900,
        tokens_in=10, tokens_out=5, price="0.0075",
    )
    for _ in range(20)
)
project.currency, project.wage, project.machine_price = "EUR", 20, 24
project.save()
"""


def click(page: Page, name: str) -> None:
    """Clicks what has this name: a menu, a link of the page, or one of the header."""
    link = page.locator("main").get_by_role("link", name=name, exact=True)
    summary = page.locator("summary").filter(has_text=re.compile(f"^\\s*{re.escape(name)}\\s*$"))
    item = page.locator("details[open]").get_by_role("link", name=name, exact=True)
    link.or_(summary).or_(item).first.click()


def test_two_clicks_answer_each_of_an_operators_twenty_questions(site, sign_in):
    slug = f"console-{uuid4().hex[:8]}"
    site.shell((WORLD + MORE).replace("SLUG", slug))
    page = sign_in("olga").page
    assert len(QUESTIONS) == 20
    unanswered = []
    for question, (clicks, answers) in QUESTIONS.items():
        assert len(clicks) <= 2
        page.goto(f"{site.url}/p/{slug}/")
        for name in clicks:
            click(page, name)
        try:
            for words in answers:
                expect(page.locator("main")).to_contain_text(words, timeout=5_000)
        except AssertionError as error:
            unanswered.append(f"{question}: {words}\n{str(error)[:3000]}")
    assert not unanswered, "\n".join(unanswered)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (360, "dark")])
def test_no_page_of_the_console_is_wider_than_the_screen(site, sign_in, width, scheme):
    slug = f"console-{uuid4().hex[:8]}"
    site.shell((WORLD + MORE).replace("SLUG", slug))
    page = sign_in("olga", width=width, scheme=scheme).page
    pages = {
        "rounds": "rounds/", "round": "rounds/1/", "data": "rounds/1/data/",
        "logs": "rounds/1/logs/", "queue": "rounds/queue/", "labelers": "labelers/",
        "compare": "rounds/compare/?round=1&round=2",
    }  # fmt: skip
    for name, address in pages.items():
        page.goto(f"{site.url}/p/{slug}/{address}")
        shot(page, f"{name}-{width}-{scheme}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
