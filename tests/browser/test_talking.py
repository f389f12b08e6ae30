"""A labeler talks with two policies in a real browser: answers stream, keys choose, nothing is
lost."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Site
from tests.model_server import ModelServer, serving

SET_UP = """
from annotate.models import *
Project.objects.filter(slug="salon").delete()
project = Project.objects.create(
    name="Salon", slug="salon", random_review_percent=100, gold_every=0, new_writer_reviews=0
)
project.publish_guideline(text="Be brief.", author=None)
for name, role in [("olga", "operator"), ("alice", "labeler"), ("rita", "reviewer")]:
    project.admit(name=name, role=role)
project.memberships.update(guideline_read=1)
for name in ("cook", "baker"):
    project.policies.create(name=name, origin="prompted", endpoint="{endpoint}", model_name=name)
"""
RANKINGS = """
from annotate.models import Ranking
for each in Ranking.objects.filter(prompt__project__slug="salon").order_by("pk"):
    policies = sorted(p.completion.policy.name for p in each.placements.all())
    print(len(each.prompt.messages), each.strength, *policies)
"""


@dataclass
class Numbering(ModelServer):
    """Says something else each time."""

    count: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def chunks(self, request: dict[str, Any]) -> Iterator[bytes]:
        yield self._chunk({"role": "assistant", "content": "This is "})
        if self.waits:
            self.go_on.wait(20)
        yield self._chunk({"content": f"answer number {next(self.count)}."})
        yield self._chunk({}, self.finish_reason)
        yield b"data: [DONE]\n\n"


@pytest.fixture
def server(site: Site) -> Iterator[Numbering]:
    port = urlsplit(site.endpoint).port
    assert port
    with serving(Numbering(), port) as script:
        yield script


def test_three_turns_by_keyboard_are_three_rankings(site: Site, sign_in, server: Numbering):
    site.shell(SET_UP.format(endpoint=site.endpoint))
    page = sign_in("olga").page
    page.goto(f"{site.url}/p/salon/talks/")
    page.get_by_label("Policy", exact=True).select_option(label="cook")
    page.get_by_label("Other policy").select_option(label="baker")
    page.get_by_label("Goal").fill("Plan a dinner for six.")
    page.get_by_label("Talks").fill("1")
    page.get_by_role("button", name="Open the talks").click()
    expect(page.get_by_text("One talk is open.")).to_be_visible()

    alice = sign_in("alice")
    page = alice.page
    page.goto(f"{site.url}/p/salon/label/")
    expect(page.get_by_text("Plan a dinner for six.").first).to_be_visible()
    server.waits = True
    page.get_by_label("Your first message").fill("What shall I cook?")
    page.keyboard.press("Enter")
    expect(page.locator(".completion .streaming").first).to_have_text("This is ")
    address = page.url
    page.context.close()  # in the middle of both answers
    server.go_on.set()

    page = sign_in("alice", width=360).page
    page.goto(address)
    expect(page.locator(".scale")).to_be_visible()
    expect(page.locator(".completion").nth(1)).to_contain_text("answer number")
    better = page.locator(".completion").nth(1).locator(".prose").inner_text()
    page.keyboard.press("8")
    expect(page.locator(".talk-answer")).to_have_text(better)
    for number, key in ((2, "1"), (3, "=")):
        page.get_by_label("Your reply").fill(f"Message {number}")
        page.get_by_role("button", name="Send").click()
        expect(page.locator(".scale")).to_be_visible()
        page.keyboard.press(key)
        expect(page.locator(".talk-answer")).to_have_count(number)
    page.get_by_text("Edit this answer before you continue").click()
    page.get_by_label("The answer, corrected").fill("This is better.")
    page.get_by_role("button", name="Continue with this version").click()
    expect(page.locator(".talk-answer").last).to_have_text("This is better.")
    page.get_by_role("button", name="Finish talk").click()
    expect(page.locator("#just-saved")).to_be_visible()
    assert site.shell(RANKINGS).splitlines() == [
        "1 4 baker cook",
        "3 4 baker cook",
        "5 None baker cook",
    ]

    rita = sign_in("rita").page
    rita.goto(f"{site.url}/p/salon/review/next/")
    expect(rita.get_by_text("What shall I cook?")).to_be_visible()
    expect(rita.get_by_text("B much better")).to_be_visible()
    rita.keyboard.press("a")
    expect(rita.get_by_text("Your review is saved.")).to_be_visible()
