"""The first ten minutes of a new labeler, in one go: nobody stands beside them."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site

PREPARE = """
from annotate.models import *
from annotate.labels.gold import make_gold
project = Project.objects.create(
    name="School", slug="{slug}", qualification_tasks=2, gold_every=0, random_review_percent=0
)
project.publish_guideline(text="The **shortest** answer is best.", author=None)
rita = project.admit(name="rita", role="reviewer")
project.admit(name="nora", role="labeler")
policy = Policy.objects.said_by(project, "m")
for number in range(4):
    prompt = Prompt.objects.create(
        project=project, messages=[{{"role": "user", "content": f"Question {{number}}"}}]
    )
    task = Task.objects.create(project=project, prompt=prompt, kind="rank")
    texts = ["Yes." + " And because of that a rather long sentence follows." * n for n in (0, 4, 9)]
    for text in texts:
        task.completions.add(Completion.objects.create(prompt=prompt, policy=policy, text=text))
    if number < 3:
        order = list(task.completions.order_by("pk").values_list("pk", flat=True))
        work = Assignment.objects.create(
            task=task, labeler=rita, leased_until="2026-01-01T00:00Z", shown_order=order
        )
        places = [Placement(completion_id=pk, place=n) for n, pk in enumerate(order, start=1)]
        ranked = Ranking.record(assignment=work, placements=places, reason="Short is best.")
        make_gold(ranked).use(is_practice=number == 0)
"""


def rank_by_length(page: Page) -> None:
    """As the guideline asks."""
    cards = page.locator(".completion").all()
    lengths = [len(card.locator(".prose").inner_text()) for card in cards]
    for card, length in zip(cards, lengths, strict=True):
        tier = sorted(lengths).index(length) + 1
        card.get_by_label("Tier of").select_option(str(tier))
    page.locator("#submit").click()


@pytest.mark.parametrize("width", [1280, 360])
def test_a_new_labeler_finds_the_way_alone(site: Site, sign_in, width: int):
    slug = f"school-{width}"
    site.shell(PREPARE.format(slug=slug))
    page = sign_in("nora", width=width).page
    page.goto(f"{site.url}/p/{slug}/")
    expect(page.get_by_role("heading", name="Practise first")).to_be_visible()
    page.get_by_role("link", name="Read the guideline").click()
    page.get_by_role("button", name="I have read it").click()

    expect(page.get_by_text("It doesn't count")).to_be_visible()
    rank_by_length(page)
    expect(page.get_by_text("in 3 of 3 comparisons")).to_be_visible()
    expect(page.get_by_text("Short is best.")).to_be_visible()
    answers = page.get_by_role("region", name="Your places and the reviewers'")
    assert answers.evaluate("each => each.scrollWidth <= each.clientWidth"), "long answers are cut"

    page.get_by_role("link", name="Next").click()
    for number in (1, 2):
        expect(page.get_by_text(f"Qualification, task {number} of 2")).to_be_visible()
        rank_by_length(page)
    expect(page.get_by_text("You have qualified")).to_be_visible()
    rank_by_length(page)
    expect(page.get_by_role("heading", name="All done")).to_be_visible()
    page.get_by_role("link", name="See my work").click()
    expect(page.get_by_role("row")).to_have_count(5)
