"""Pages of the workplace: nothing axe calls serious, in light and dark, and none over 150 kB."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tests.browser.conftest import Site
from tests.browser.test_labelling import PREPARE

PAGES = {
    "alice": ["label/", "my-work/", "guideline/", ""],
    "olga": [
        *("prompts/", "prompts/?archived=on", "prompts/import/", "settings/", "guideline/new/"),
        *("progress/", "labelers/", "gold/", "review/", "playground/"),
    ],
}
LARGEST = 150_000


def weight(page: Page, address: str) -> int:
    """Bytes that come over the line for a page that no cache knows."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.setCacheDisabled", {"cacheDisabled": True})
    sizes: list[int] = []
    session.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    page.goto(address, wait_until="networkidle")
    session.detach()
    return int(sum(sizes))


def serious(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {each['nodes'][0]['html'][:200]}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_accessible_and_light(scheme, site: Site, sign_in):
    site.shell(PREPARE.format(sizes=[4]))
    site.shell("from annotate.models import Project; p = Project.objects.get(slug='desk');"
               "p.admit(name='olga', role='operator')")  # fmt: skip
    problems: dict[str, object] = {}
    for name, paths in PAGES.items():
        page = sign_in(name, scheme=scheme).page
        for path in paths:
            heavy = weight(page, f"{site.url}/p/desk/{path}")
            if heavy > LARGEST:
                problems[f"{path} weighs"] = heavy
            if found := serious(page):
                problems[path] = found
    assert not problems
