"""A grid from its form to its export, asked by the site's own worker."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site
from tests.model_server import ModelServer, serving

SAVED = (
    "How long do I ↵  ↵ boil an egg? +++ And an egg for two?"
    " => readable, contains(eight), lacks(minutes)"
)
SET_UP = """
from annotate.models import Connection, Policy, Project
project = Project.objects.create(name="Bakery", slug="bakery")
project.publish_guideline(text="Be brief.", author=None)
project.admit(name="olga", role="operator")
server = Connection.objects.create(
    project=project, name="Bakery AI", base_url="{endpoint}", price_in=1, price_out=4
)
Policy.objects.create(
    project=project, name="baker", origin="prompted", connection=server, model_name="cook-1"
)
"""


@pytest.fixture
def server(site: Site) -> Iterator[ModelServer]:
    port = urlsplit(site.endpoint).port
    assert port
    usage = {"prompt_tokens": 20, "completion_tokens": 5}
    with serving(ModelServer(usage=usage), port) as script:
        yield script


def test_a_grid_is_asked_while_one_looks_on(site: Site, sign_in, server: ModelServer):
    site.shell(SET_UP.format(endpoint=site.endpoint))
    page = sign_in("olga").page
    page.goto(f"{site.url}/p/bakery/playground/")
    expect(page.get_by_text("None yet. Write a prompt")).to_be_visible()
    rows = "How long do I\n\nboil {dish}?\n+++\nAnd {dish} for two?"
    page.get_by_label("Prompts", exact=True).fill(rows)
    page.get_by_label("Table of variables").set_input_files(
        {"name": "dishes.csv", "mimeType": "text/csv", "buffer": b"dish\nan egg\nrice\n"}
    )
    page.locator("[name=checks]").fill("readable, contains(eight), lacks(minutes)")
    page.get_by_role("button", name="Add a column").click()
    for number in range(3):
        page.locator(f"[name=c{number}-weights]").select_option("baker")
        page.locator(f"[name=c{number}-system_prompt]").fill(f"Style {number}")
    # A file is not sent twice by a browser, so it is chosen again.
    page.get_by_label("Table of variables").set_input_files(
        {"name": "dishes.csv", "mimeType": "text/csv", "buffer": b"dish\nan egg\nrice\n"}
    )
    server.waits = True
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.get_by_text("0 of 6 answered")).to_be_visible()
    server.waits = False
    server.go_on.set()
    expect(page.get_by_text("Boil it for **eight** minutes.")).to_have_count(6)
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    expect(page.get_by_text("lacks: no")).to_have_count(6)
    page.get_by_label("Sort by").select_option("total_ms")
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(re.compile("sort=total_ms"))
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert len(download.value.path().read_text().splitlines()) > 6
    looked_at_by_keys(page)
    expect(page.get_by_text("And an egg for two?", exact=True).first).to_be_visible()
    assert len(server.asked) == 12, "each cell once, of two turns"


def looked_at_by_keys(page: Page) -> None:
    """From cell to cell, another look at their texts, a row saved to a suite, the last cell opened:
    without a mouse."""
    page.goto(page.url.split("?")[0])
    cell = page.locator(".cell")
    page.keyboard.press("j")
    expect(cell.nth(0)).to_be_focused()
    keys = ("ArrowRight", "l", "l", "ArrowDown", "k", "h")
    for key, number in zip(keys, (1, 2, 2, 5, 2, 1), strict=True):
        page.keyboard.press(key)
        expect(cell.nth(number)).to_be_focused()
    expect(cell.nth(1).locator("strong")).to_be_visible()
    page.keyboard.press("v")
    expect(cell.nth(1).locator("strong")).to_be_hidden()
    expect(cell.nth(1).get_by_text("for **eight** minutes")).to_be_visible()
    page.keyboard.press("v")
    expect(cell.nth(1).locator("strong")).to_be_visible()
    page.keyboard.press("x")
    expect(page.locator("[name=row]:checked")).to_have_count(1)
    page.keyboard.press("s")
    page.keyboard.type("Dishes")
    page.get_by_role("button", name="Save as a suite").click()
    expect(page.get_by_text("“Dishes” has 1 new line.")).to_be_visible()
    expect(page.get_by_label("Checks, one per line")).to_have_value(SAVED)
    page.go_back()
    page.keyboard.press("j")
    page.keyboard.press("Enter")


def test_a_policy_plays_hangman_against_the_site(site: Site, sign_in, server: ModelServer):
    """Its letters are those of “egg” and none of “why”: the site answers each, and scores both."""
    slug = "hangman"
    site.shell(SET_UP.format(endpoint=site.endpoint).replace("bakery", slug))
    server.says_to = guess
    page = sign_in("olga").page
    page.goto(f"{site.url}/p/{slug}/playground/")
    page.get_by_label("Prompts", exact=True).fill("egg\n---\nwhy")
    page.locator("[name=checks]").fill("length(1-3)")
    page.get_by_label("The user's next turns").select_option("hangman")
    page.locator("[name=c0-weights]").select_option("baker")
    page.locator("[name=c0-system_prompt]").fill("Guess one letter, and say nothing else.")
    page.get_by_role("button", name="Ask", exact=True).click()
    won, lost = page.locator("#cell-0-0"), page.locator("#cell-1-0")
    expect(won.locator(".chip.ok", has_text="hangman")).to_be_visible()
    expect(lost.get_by_text("hangman: no")).to_be_visible()
    expect(page.locator("thead").get_by_text("50%")).to_be_visible()
    won.get_by_role("link", name="Open").click()
    for said in ("3 letters: _ _ _", "No, there is no “a”.", "Yes, there is “g”.", "_ g g"):
        expect(page.get_by_text(said).first).to_be_visible()
    assert len(server.asked) == 3 + 6, "A, G and E; six wrong ones of the other"


def test_what_a_broken_server_owes_is_asked_for_again(site: Site, sign_in, server: ModelServer):
    slug = "broken-server"
    site.shell(SET_UP.format(endpoint=site.endpoint).replace("bakery", slug))
    page = sign_in("olga").page
    page.goto(f"{site.url}/p/{slug}/playground/")
    page.get_by_label("Prompts", exact=True).fill("How long do I boil an egg?")
    page.locator("[name=c0-weights]").select_option("baker")
    server.raw = [b"data: nonsense\n\n"]
    page.get_by_role("button", name="Ask", exact=True).click()
    again = page.get_by_role("button", name="Ask for them again")
    for trouble in ({"raw": [b"x" * 2**20] * 12}, {"status": 401}, {}):
        expect(page.get_by_text("1 of 1 answers are missing.")).to_be_visible()
        expect(page.locator(".cell .error")).to_be_visible()
        server.raw, server.status = trouble.get("raw", []), trouble.get("status", 200)
        with page.expect_navigation():
            again.click()
    expect(page.locator(".cell strong", has_text="eight")).to_be_visible()
    expect(again).to_have_count(0)


def guess(request: dict[str, Any]) -> str:
    said = sum(each["role"] == "assistant" for each in request["messages"])
    return "AGEIOUBC"[said]
