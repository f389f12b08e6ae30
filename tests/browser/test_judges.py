"""A judge from its form to its page, asked by the site's own worker."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site
from tests.model_server import ModelServer, serving

SET_UP = """
from annotate.models import *
from annotate.labelling.queue import next_assignment
project = Project.objects.create(name="Bakery", slug="bakery2", random_review_percent=0,
                                 qualification_tasks=0)
project.publish_guideline(text="Be brief.", author=None)
project.admit(name="olga", role="operator")
bakers = [project.admit(name=name, role="labeler") for name in ("anna", "ben")]
project.memberships.update(guideline_read=1)
server = Connection.objects.create(
    project=project, name="Bakery AI", base_url="{endpoint}", price_in=1, price_out=4
)
policy, other = [
    Policy.objects.create(
        project=project, name=name, origin="prompted", connection=server, model_name=model
    )
    for name, model in (("baker", "cook-1"), ("chef", "cook-2"))
]
for n in range(24):
    messages = [{{"role": "user", "content": f"How long does dish {{n}} take in the oven?"}}]
    tags = ["bread" if n % 2 else "cake"]
    prompt = Prompt.objects.create(project=project, messages=messages, tags=tags)
    task = Task.objects.create(project=project, prompt=prompt, kind="rank", overlap=2)
    for k in range(3):
        text = f"Number {{k}}: about {{20 + 5 * k}} minutes" + ", and let it rest" * (k * (n % 3))
        said = Completion.objects.create(
            prompt=prompt, policy=[policy, other][k % 2], text=text, source="sampled"
        )
        task.completions.add(said)
for baker in bakers:
    while work := next_assignment(baker, project):
        order = sorted(work.shown_order)
        Ranking.record(assignment=work, placements=[
            Placement(completion_id=pk, place=place) for place, pk in enumerate(order, start=1)
        ])
"""


@pytest.fixture
def server(site: Site) -> Iterator[ModelServer]:
    port = urlsplit(site.endpoint).port
    assert port
    usage = {"prompt_tokens": 200, "completion_tokens": 12}
    with serving(ModelServer(usage=usage), port) as script:
        yield script


def by_the_number(request) -> str:
    """As the people rank, but for one dish in six, and what it cannot make up its mind about."""
    asked = request["messages"][1]["content"]
    dish = int(re.search(r"dish (\d+)", asked)[1])
    first, second = (int(each) for each in re.findall(r"^Number (\d)", asked, re.MULTILINE))
    if dish == 7:
        return "Both are good."
    if dish % 5 == 1 and {first, second} == {1, 2}:
        return "Verdict: A"
    right = (first < second) != (dish % 6 == 0)
    return f"One is clearer.\nVerdict: {'A' if right else 'B'}"


def test_a_judge_is_added_asked_and_read_about(site: Site, sign_in, server: ModelServer):
    site.shell(SET_UP.format(endpoint=site.endpoint))
    server.says_to = by_the_number
    page = sign_in("olga").page
    page.goto(f"{site.url}/p/bakery2/labelers/")
    page.get_by_role("link", name="Judges").click()
    expect(page.get_by_text("No judges yet")).to_be_visible()
    photograph(page, "judges-none")
    page.get_by_role("link", name="New judge").click()
    page.get_by_label("Name").fill("strict")
    page.get_by_label("Model of").select_option("baker")
    page.get_by_label("Rubric").fill("The better answer names the shorter time.\nNothing else.")
    photograph(page, "judge-new")
    page.get_by_role("button", name="Add judge").click()
    expect(page.get_by_text("strict is added")).to_be_visible()
    page.get_by_role("button", name="Give it tasks").click()
    expect(page.get_by_text("strict has 24 tasks now.")).to_be_visible()
    expect(page.get_by_text("First shown wins")).to_be_visible(timeout=90_000)
    expect(page.get_by_role("button", name="Stop")).to_have_count(0, timeout=90_000)
    figures = page.locator("dl.figures")
    expect(figures).to_contain_text("Tasks ranked, also by people23, 23")
    expect(figures).to_contain_text("Unreadable replies6 of 144")
    expect(page.get_by_role("heading", name="What could be left to it")).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("baker its own model"))).to_be_visible()
    page.get_by_label("Agreement wanted, %").fill("60")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page).to_have_url(re.compile(r"\?at=60$"))
    photograph(page, "judge")
    page.locator("#contradictions a").first.click()
    expect(page).to_have_url(re.compile(r"/prompts/\d+/$"))
    page.go_back()
    page.get_by_role("link", name="Judges").click()
    expect(page.get_by_role("row", name=re.compile("strict.*23"))).to_be_visible()
    photograph(page, "judges")
    page.get_by_role("link", name="strict").click()
    page.get_by_text("Withdraw…").click()
    page.get_by_role("button", name="Withdraw strict").click()
    expect(page.get_by_text("withdrawn").first).to_be_visible()


def photograph(page: Page, name: str) -> None:
    """Where a folder is named, as it looks wide and narrow, in the light and in the dark."""
    if not (folder := os.environ.get("SCREENSHOTS")):
        return
    for scheme in ("light", "dark"):
        for width in (1280, 360):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 800})
            file = Path(folder) / f"{name}-{scheme}-{width}.png"
            page.screenshot(path=str(file), full_page=True)
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 800})
