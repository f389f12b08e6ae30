"""What people say stays what they said: final where it measures them, under one letter for all, and
gold only where a reviewer makes it so."""

import re
import uuid

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site
from tests.browser.test_first_minutes import PREPARE as SCHOOL

BENCH = """
from annotate.models import *
project = Project.objects.create(
    name="True", slug="{slug}", random_review_percent=100, gold_every=0
)
for name, role in (("alma", "labeler"), ("bert", "labeler"), ("ruth", "reviewer")):
    project.admit(name=name, role=role)
policy = Policy.objects.said_by(project, "m")
prompt = Prompt.objects.create(project=project, messages=[{{"role": "user", "content": "Which?"}}])
task = Task.objects.create(project=project, prompt=prompt, kind="rank", overlap={overlap})
for text in ("Oak.", "Elm.", "Ash.", "Fir.", "Yew.")[:{k}]:
    task.completions.add(Completion.objects.create(prompt=prompt, policy=policy, text=text))
"""
GOLD = """
from annotate.models import Task
print(Task.objects.filter(project__slug="{slug}").exclude(gold=None).count())
"""


def rank_against_length(page: Page) -> None:
    cards = page.locator(".completion").all()
    lengths = [len(card.locator(".prose").inner_text()) for card in cards]
    for card, length in zip(cards, lengths, strict=True):
        tier = sorted(lengths, reverse=True).index(length) + 1
        card.get_by_label("Tier of").select_option(str(tier))
    page.locator("#submit").click()


@pytest.mark.parametrize("width", [1280, 360])
def test_who_failed_to_qualify_finds_no_way_to_pass_by_editing(site: Site, sign_in, width: int):
    slug = f"exam-{width}"
    site.shell(SCHOOL.format(slug=slug))
    nora = sign_in("nora", width=width)
    page = nora.page
    page.goto(f"{site.url}/p/{slug}/guideline/")
    page.get_by_role("button", name="I have read it").click()
    expect(page.get_by_text("It doesn't count")).to_be_visible()
    rank_against_length(page)
    page.get_by_role("link", name="Next").click()
    answered = {}
    for number in (1, 2):
        expect(page.get_by_text(f"Qualification, task {number} of 2")).to_be_visible()
        expect(page.get_by_text("once you submit it.")).to_be_visible()
        answered[page.url] = shortest_first(page)
        rank_against_length(page)
    expect(page.get_by_role("heading", name="You haven't qualified yet")).to_be_visible()
    expect(page.get_by_text("Saved at")).to_be_visible()
    expect(page.get_by_role("button", name="Undo")).to_have_count(0)
    # Nothing says how near it was: only what is needed.
    assert re.findall(r"\d+ ?%", page.locator("main").inner_text()) == ["75%"]
    page.get_by_role("link", name="See my work").click()
    expect(page.get_by_role("link", name="View")).to_have_count(3)
    expect(page.get_by_role("link", name="Edit", exact=True)).to_have_count(0)
    for address, places in answered.items():
        page.goto(address)
        expect(page.get_by_text("the first answer counts")).to_be_visible()
        expect(page.get_by_role("button", name="Submit")).to_have_count(0)
        by_hand(page, address, places)
    page.goto(f"{site.url}/p/{slug}/label/")
    expect(page.get_by_role("heading", name="You haven't qualified yet")).to_be_visible()


def shortest_first(page: Page) -> dict[str, int]:
    """The form fields of the right order."""
    lengths = {}
    for card in page.locator(".completion").all():
        name = card.get_by_label("Tier of").get_attribute("name")
        lengths[name] = len(card.locator(".prose").inner_text())
    return {name: n for n, name in enumerate(sorted(lengths, key=lengths.get), start=1)}


def by_hand(page: Page, address: str, places: dict[str, int]) -> None:
    """The requests of an edit into the right order, of an undo and a second answer."""
    key = [cookie["value"] for cookie in page.context.cookies() if "csrf" in cookie["name"]][0]
    headers = {"X-CSRFToken": key, "Referer": address}
    for path, more in (("", {"revision_no": 1}), ("undo/", {}), ("", {})):
        form = {**places, **more, "idempotency_key": str(uuid.uuid4())}
        reply = page.request.post(f"{address}{path}", form=form, headers=headers)
        assert reply.ok, reply.status


def letters_of_cards(page: Page) -> dict[str, str]:
    cards = page.locator(".completion").all()
    texts = [card.locator(".prose").inner_text().strip() for card in cards]
    return dict(zip((card.get_attribute("data-letter") for card in cards), texts, strict=True))


def letters_of_rows(page: Page) -> dict[str, str]:
    found = {}
    for row in page.locator("table.matrix tbody tr").all():
        letter, text = row.locator("th").inner_text().split()
        found[letter] = text
    return found


def rank(page: Page, order: str, reason: str) -> None:
    """`order`: letters, the best first."""
    for tier, letter in enumerate(order, start=1):
        page.get_by_label(f"Tier of {letter}").select_option(str(tier))
    page.get_by_label("Why this order?").fill(reason)
    page.locator("#submit").click()
    expect(page.get_by_text("Saved at")).to_be_visible()


def test_b_is_the_same_text_for_labelers_and_reviewers(site: Site, sign_in):
    site.shell(BENCH.format(slug="letters", k=5, overlap=2))
    here = f"{site.url}/p/letters"
    seen, shown, works = [], [], []
    people = {"alma": "ABCDE", "bert": "EDCBA"}
    for name, order in people.items():
        page = sign_in(name).page
        page.goto(f"{here}/label/")
        works.append(page.url)
        seen.append(letters_of_cards(page))
        shown.append(list(seen[-1]))
        rank(page, order, f"{order[0]} is right.")
        page.goto(f"{here}/my-work/")
        expect(page.get_by_role("row").last).to_contain_text(" > ".join(order))
    assert seen[0] == seen[1] and shown[0] != shown[1]

    ruth = sign_in("ruth").page
    ruth.goto(f"{here}/review/next/")
    review = ruth.url
    assert letters_of_rows(ruth) == seen[0]
    for letter, first, second in zip("ABCDE", "12345", "54321", strict=True):
        cells = ruth.locator("tbody tr", has_text=seen[0][letter]).locator("td")
        expect(cells.nth(0)).to_have_text(first)
        expect(cells.nth(1)).to_have_text(second)
    ruth.get_by_label("Cause").select_option("labeler error")
    ruth.get_by_label("Comment to the labeler").fill("B is wrong.")
    ruth.get_by_role("button", name="Send back L1").click()
    expect(ruth.get_by_text("Your review is saved.")).to_be_visible()
    ruth.goto(review)
    assert letters_of_rows(ruth) == seen[0]

    alma = sign_in("alma", width=360, scheme="dark").page
    alma.goto(works[0])
    expect(alma.get_by_text("B is wrong.")).to_be_visible()
    assert letters_of_cards(alma) == seen[0] and list(letters_of_cards(alma)) == shown[0]
    ruth.goto(f"{here}/labelers/")
    ruth.get_by_role("link", name="bert").first.click()
    ruth.get_by_role("link", name="Which?").click()
    assert letters_of_rows(ruth) == seen[0]


@pytest.mark.parametrize("chosen", [False, True], ids=["left alone", "chosen"])
@pytest.mark.parametrize("script", [True, False], ids=["JavaScript", "no JavaScript"])
def test_a_reviewers_own_ranking_is_gold_where_that_is_chosen(
    site: Site, sign_in, chosen: bool, script: bool
):
    slug = f"gold-{chosen}-{script}".lower()
    site.shell(BENCH.format(slug=slug, k=3, overlap=1))
    page = sign_in("alma").page
    page.goto(f"{site.url}/p/{slug}/label/")
    rank(page, "ABC", "A is right.")
    page = sign_in("ruth", java_script_enabled=script).page
    page.goto(f"{site.url}/p/{slug}/review/next/")
    for tier, letter in enumerate("BAC", start=1):
        page.get_by_label(f"My tier for {letter}").select_option(f"Tier {tier}")
    page.get_by_label("Cause").select_option("labeler error")
    box = page.get_by_label("Also use as gold")
    expect(box).not_to_be_checked()
    expect(page.get_by_text("Gold is the known right answer")).to_be_visible()
    if chosen:
        box.check()
    page.get_by_role("button", name="Use my own ranking").click()
    expect(page.get_by_text("Your review is saved.")).to_be_visible()
    assert site.shell(GOLD.format(slug=slug)) == str(int(chosen))
    page.goto(f"{site.url}/p/{slug}/gold/")
    expect(page.get_by_text("Which?")).to_be_visible()
    expect(page.get_by_role("button", name="Retire")).to_have_count(int(chosen))
