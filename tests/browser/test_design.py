"""The page of parts: there for whoever works on pages, and as accessible as they are."""

import importlib.util
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.contrib.staticfiles import finders
from django.test import Client
from playwright.sync_api import Browser, Route

from tests.browser.test_every_page import serious


def addresses(settings, *, debug: bool):
    """The addresses of the site as they are with DEBUG on or off."""
    settings.DEBUG = debug
    spec = importlib.util.find_spec("feedback_site.urls")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("debug", "status"), [(True, 200), (False, 404)])
def test_the_parts_are_shown_only_with_debug(settings, debug, status):
    settings.ROOT_URLCONF = addresses(settings, debug=debug)
    assert Client().get("/design/").status_code == status


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_every_part_is_accessible_in_light_and_dark(settings, browser: Browser, scheme, width):
    settings.ROOT_URLCONF = addresses(settings, debug=True)
    answer = Client().get("/design/")
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    errors = []
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)

    def serve(route: Route) -> None:
        address = urlsplit(route.request.url).path
        if address == "/design/":
            policy = {"Content-Security-Policy": answer["Content-Security-Policy"]}
            route.fulfill(body=answer.content, content_type="text/html", headers=policy)
        elif found := finders.find(address.removeprefix("/static/")):
            route.fulfill(path=Path(str(found)))
        else:
            route.fulfill(status=404)

    page.route("**/*", serve)
    page.goto("http://design.test/design/", wait_until="load")
    wrong = serious(page)
    wide = page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
    page.close()
    assert not wrong and not errors and wide <= 0
