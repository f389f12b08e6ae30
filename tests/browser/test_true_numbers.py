"""What a number on a page names is what its link opens, and every page names the same number."""

import re
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site

# 60 answers of Alice's, of which the oldest comes back; more to write and to rank; a grid whose
# half is answered; a run that was tried again at half the rate; labels of somebody who withdrew.
PREPARE = """
from datetime import timedelta
from django.utils import timezone
from annotate.models import *
from annotate.playground.grids import Column
from annotate.labelling.queue import next_assignment
from rlhf.models import *
project = Project.objects.create(name="Sums", slug="sums", random_review_percent=0)
alice = project.admit(name="alice", role="labeler")
bob = project.admit(name="bob", role="labeler")
rita = project.admit(name="rita", role="reviewer")
olga = project.admit(name="olga", role="operator")
policy = Policy.objects.said_by(project, "m")
asked = [
    Prompt.objects.create(
        project=project, messages=[{"role": "user", "content": f"Question {number}?"}]
    )
    for number in range(80)
]
for prompt in asked:
    Task.objects.create(project=project, prompt=prompt, kind="write")
done = []
for _ in range(60):
    work = next_assignment(alice, project)
    done.append(Demonstration.record(assignment=work, text="An answer."))
    ended = timezone.now() - timedelta(days=len(done) % 2)
    Assignment.objects.filter(pk=work.pk).update(ended_at=ended)
for prompt in [prompt for prompt in asked if prompt.split == "train"][:3]:
    task = Task.objects.create(project=project, prompt=prompt, kind="rank")
    said = [
        Completion.objects.create(prompt=prompt, policy=policy, text=text)
        for text in ("One answer.", "Another.")
    ]
    task.completions.set(said)
    for labeler in (alice, bob):
        ranking = Ranking.objects.create(prompt=prompt, labeler=labeler)
        for place, completion in enumerate(said, 1):
            ranking.placements.create(completion=completion, place=place)
Demonstration.objects.create(prompt=asked[70], labeler=bob, text="Mine.")
review = Review.objects.create(
    demonstration=done[0], reviewer=rita, verdict="sent_back", comment="Say how long."
)
done[0].send_back(review)
Withdrawal.withdraw(project, person=bob, by=olga)
policy.folder = "models/base"
policy.save()
weights = dict(weights=policy.pk, temperature=0.5, max_new_tokens=64)
grid = Grid.lay_out(
    project=project, author=olga, prompts=["First?", "Second?"],
    columns=[Column(**weights, system_prompt=words) for words in ("Be brief.", "Rhyme.")],
)
for column in range(2):
    grid.save_column(column, name=f"column {column}")
    grid.cells.get(row=0, column=column).answer(text=f"Answer {column}", finish_reason="stop")
round = Round.objects.create(
    project=project, number=1, recipe="tiny", base=policy, launched_by=olga, filters={}
)
from rlhf.rounds.settings import stage_configs
for position, (kind, config) in enumerate(
    stage_configs(["sft"], "tiny", {"sft": {"train": {"epochs": 9}}}).items()
):
    run = Run.objects.create(
        project=project, round=round, kind=kind, position=position, config=config,
        state="running", lease_token=1, launched_by=olga,
    )
    if kind == "sft":
        rate = config["train"]["learning_rate"] / 2
        assert run.retry(token=1, why="not_finite", changes={"learning_rate": rate})
    Run.objects.filter(pk=run.pk).update(state="failed")
"""
ANSWER_THE_REST = """
from annotate.models import Grid
grid = Grid.objects.get(project__slug="sums")
for column in range(2):
    grid.cells.get(row=1, column=column).answer(text=f"Another {column}", finish_reason="stop")
"""


@pytest.fixture
def sums(site: Site) -> str:
    """The address of a project of one's own: what one test does, no other counts."""
    slug = f"sums-{uuid4().hex[:8]}"
    # In the shell, a transaction of its own for the row locks of sending back.
    body = "\n".join(f"    {line}" for line in PREPARE.strip().splitlines())
    body = body.replace('"sums"', f'"{slug}"')
    site.shell(f"from django.db import transaction\nwith transaction.atomic():\n{body}\n")
    return f"{site.url}/p/{slug}/"


def card(page: Page, title: str):
    return page.locator(".to-do").filter(has=page.get_by_role("heading", name=title))


def test_write_answers_opens_writing_and_goes_on_with_it(sums, sign_in):
    page = sign_in("alice").page
    page.goto(sums)
    expect(card(page, "Rank answers").locator(".figure")).to_have_text("3")
    # The one begun, and twenty more.
    expect(card(page, "Continue writing").locator(".figure")).to_have_text("21")
    card(page, "Continue writing").click()
    for number in range(2):
        box = page.locator("textarea[name=text]")
        expect(box).to_be_visible()
        box.fill(f"Answer number {number}.")
        before = page.url
        page.locator("#work").get_by_role("button", name="Submit").click()
        page.wait_for_url(lambda url, before=before: url != before)
    expect(page.locator("textarea[name=text]")).to_be_visible()


def test_a_returned_answer_is_opened_from_page_3_of_my_work(sums, sign_in):
    page = sign_in("alice").page
    page.goto(f"{sums}my-work/")
    expect(page.locator("tbody tr")).to_have_count(25)
    expect(page.get_by_role("table").get_by_text("sent back by a reviewer")).to_have_count(0)
    page.goto(sums)
    expect(card(page, "Fix returned answers").locator(".figure")).to_have_text("1")
    card(page, "Fix returned answers").click()
    expect(page.get_by_text("Say how long.").first).to_be_visible()
    expect(page.locator("textarea[name=text]")).to_have_value("An answer.")
    page.goto(f"{sums}my-work/")
    page.get_by_role("link", name="An answer was returned by a reviewer: fix it").click()
    expect(page.get_by_text("Say how long.").first).to_be_visible()


def test_the_forecast_divides_by_the_days_worked(sums, sign_in):
    page = sign_in("rita").page
    page.goto(f"{sums}progress/")
    writing = page.locator(".card").filter(has=page.get_by_role("heading", name="Write"))
    said = writing.locator("p.muted").inner_text()
    pace, days = map(float, re.search(r"([\d.]+) per day of work.* in (\d+) day", said).groups())
    answered, wanted = map(int, re.search(r"(\d+) of (\d+)", writing.inner_text()).groups())
    assert (wanted, days) == (80, 1), said
    assert abs(pace - answered / 2) < 0.1, said


def test_home_and_new_round_count_the_same_labels(sums, sign_in):
    page = sign_in("olga").page
    page.goto(sums)
    launch = card(page, "Launch a round")
    said = re.search(r"(\d+) demonstrations and (\d+) rankings", launch.inner_text())
    launch.click()
    expect(page.locator("#checks dt").first).to_be_visible()
    counts = dict(
        zip(
            page.locator("#checks dt").all_inner_texts(),
            page.locator("#checks dd").all_inner_texts(),
            strict=True,
        )
    )
    assert (counts["Demonstrations"], counts["Rankings"]) == said.groups()
    assert counts["Rankings"] == "3", "of Alice; Bob has withdrawn"


def test_a_grid_is_ranked_again_when_more_of_it_is_answered(site, sums, sign_in):
    page = sign_in("olga").page
    page.goto(f"{sums}playground/")
    page.get_by_role("link", name="First?").click()
    send = page.get_by_role("button", name=re.compile("rank", re.IGNORECASE))
    send.click()
    expect(page.get_by_text("1 ranking task opened.")).to_be_visible()
    send.click()
    expect(page.get_by_text("Labelers already have")).to_be_visible()
    site.shell(ANSWER_THE_REST.replace("sums", sums.split("/")[-2]))
    send.click()
    expect(page.get_by_text("1 ranking task opened.")).to_be_visible()


def test_a_clone_carries_what_the_operator_chose(sums, sign_in):
    page = sign_in("olga").page
    page.goto(f"{sums}rounds/1/")
    expect(page.get_by_text("Tried again after non-finite gradients")).to_be_visible()
    page.get_by_role("link", name="Clone settings").click()
    expect(page.locator('[name="sft.train.epochs"]')).to_have_value("9")
    expect(page.locator('[name="sft.train.learning_rate"]')).to_have_value("")
