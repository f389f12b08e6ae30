"""From files to an answer with its sources, and back to an answer without."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Site
from tests.model_server import ModelServer, read_aloud, serving

SET_UP = """
from annotate.models import Connection, Project
project = Project.objects.create(name="Mill", slug="mill")
project.publish_guideline(text="Be brief.", author=None)
project.admit(name="olga", role="operator")
project.admit(name="gus", role="guest")
Connection.objects.create(project=project, name="Mill AI", base_url="{endpoint}")
"""
GO_LIVE = """
from annotate.models import Policy
policy = Policy.objects.get(project__slug="mill", name="miller")
assert policy.passages_read == 2
policy.go_live()
"""
MILL = "# The mill\n\nThe Vogel mill was built in 1764. It grinds rye and wheat."
PRICES = "<h1>Prices</h1><p>A loaf of rye bread costs 4 crowns.</p>"


@pytest.fixture
def reader(site: Site) -> Iterator[ModelServer]:
    port = urlsplit(site.endpoint).port
    assert port
    with serving(ModelServer(says_to=read_aloud), port) as script:
        yield script


def test_an_answer_comes_from_the_documents_and_goes_with_them(
    site: Site, sign_in, reader: ModelServer
):
    site.shell(SET_UP.format(endpoint=site.endpoint))
    page = sign_in("olga").page
    page.goto(f"{site.url}/p/mill/documents/")
    expect(page.get_by_text("No documents yet.")).to_be_visible()
    page.get_by_label("Files").set_input_files(
        [
            {"name": "mill.md", "mimeType": "text/markdown", "buffer": MILL.encode()},
            {"name": "prices.html", "mimeType": "text/html", "buffer": PRICES.encode()},
        ]
    )
    page.get_by_role("button", name="Import").click()
    expect(page.get_by_text("2 new documents.")).to_be_visible()
    page.get_by_role("searchbox").fill("What does a loaf of bread cost?")
    page.get_by_role("button", name="Look up").click()
    expect(page.get_by_text("1. prices.html")).to_be_visible()

    page.goto(f"{site.url}/p/mill/policies/new/")
    page.get_by_label("Name").fill("miller")
    page.get_by_label("Connection").select_option("Mill AI")
    page.get_by_label("Model", exact=True).fill("cook-1")
    page.get_by_label("Passages it reads").fill("2")
    page.get_by_role("button", name="Add policy").click()
    expect(page.get_by_text("miller is now a policy.")).to_be_visible()
    site.shell(GO_LIVE)

    guest = sign_in("gus").page
    guest.goto(f"{site.url}/p/mill/chat/")
    guest.get_by_role("textbox").first.fill("When was the Vogel mill built?")
    guest.get_by_role("textbox").first.press("Enter")
    said = guest.get_by_role("paragraph")  # the same stands in what "Raw" would show
    expect(said.filter(has_text="was built in 1764. [1]").first).to_be_visible()
    sources = guest.locator(".sources")
    expect(sources.get_by_text("mill.md").first).to_be_visible()
    sources.locator("summary").click()
    expect(sources.get_by_role("blockquote").first).to_contain_text("It grinds rye")
    guest.reload()
    expect(guest.locator(".sources").get_by_text("mill.md").first).to_be_visible()

    page.goto(f"{site.url}/p/mill/documents/")
    row = page.get_by_role("row").filter(has_text="mill.md")
    row.get_by_text("Delete…").click()
    row.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("mill.md: deleted.")).to_be_visible()
    guest.reload()
    guest.locator(".sources summary").click()
    expect(guest.get_by_text("This document was deleted.").first).to_be_visible()
    guest.get_by_role("textbox").last.fill("And when was the Vogel mill built?")
    guest.get_by_role("textbox").last.press("Enter")
    expect(said.filter(has_text="I do not know.").first).to_be_visible()
