"""A grid from its form to its export, asked by the site's own worker."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Site
from tests.model_server import ModelServer, serving

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
    page.get_by_role("link", name="Open row 1, column 1").click()
    expect(page.get_by_text("And an egg for two?", exact=True)).to_be_visible()
    assert len(server.asked) == 12, "each cell once, of two turns"
