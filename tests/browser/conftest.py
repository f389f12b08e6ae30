"""The real stack in processes of its own, and a real Chromium in front of it."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Keyboard,
    Locator,
    Mouse,
    Page,
    expect,
    sync_playwright,
)

from tests import cluster

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WAIT_MS = 45_000  # for a page, by a machine that does much else; who succeeds waits no longer
expect.set_options(timeout=WAIT_MS)
# Chromium hears the last list only, so this is Playwright's and two more: a window has an address
# bar that nobody types in, whose suggestions are two pages of their own, and take two thirds of the
# time that opening it takes.
LEFT_OUT = (
    *("AvoidUnnecessaryBeforeUnloadCheckSync", "DestroyProfileOnBrowserClose", "HttpsUpgrades"),
    *("HttpsFirstBalancedModeAutoEnable", "LensOverlay", "MediaRouter", "PaintHolding"),
    *("ThirdPartyStoragePartitioning", "AvoidCorsURLLoaderRestartOnRedirect"),
    *("OptimizationHints", "NetworkTimeServiceQuerying", "AimEnabled", "PreconnectToSearch"),
    *("WebUIOmniboxPopup", "WebUIOmniboxAimPopup"),
)
FLAGS = [
    f"--disable-features={','.join(LEFT_OUT)}",
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
]


@dataclass
class Site:
    """A running installation: its address, and its command line."""

    url: str
    endpoint: str  # of a model server outside, which a test may start there
    process: subprocess.Popen[str]
    console: subprocess.Popen[str]

    def manage(self, *arguments: str) -> str:
        assert self.console.stdin and self.console.stdout
        self.console.stdin.write(json.dumps(arguments) + "\n")
        self.console.stdin.flush()
        printed, failed = json.loads(self.console.stdout.readline())
        assert not failed, failed
        return printed.strip()

    def shell(self, code: str) -> str:
        return self.manage("shell", "--no-imports", "-c", code)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    embedded = {"DATABASE_URL", "REDIS_URL", "INFERENCE_URL"}
    env = {name: value for name, value in os.environ.items() if name not in embedded}
    data_dir = tmp_path_factory.mktemp("site")
    cluster.copied(cluster.migrated(), data_dir)
    env |= {
        "DATA_DIR": str(data_dir),
        "PORT": str(free_port()),
        "BASE_MODEL": "tiny",
        "LEASE_SECONDS": "15",
        "INFERENCE_ENDPOINTS": f"http://127.0.0.1:{free_port()}/v1",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "feedback_site.up"],
        cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    console = [sys.executable, "-m", "tests.browser.console"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    env["DJANGO_SETTINGS_MODULE"] = "feedback_site.settings"
    try:
        url = address_when_ready(process)
        with subprocess.Popen(console, cwd=ROOT, env=env, text=True, **pipes) as manage:
            yield Site(url, env["INFERENCE_ENDPOINTS"], process, manage)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def address_when_ready(process: subprocess.Popen[str]) -> str:
    said = []
    assert process.stdout
    for line in process.stdout:
        said.append(line)
        if ready := re.match(r"ready (http://\S+)", line):
            return ready.group(1)
    pytest.fail("the site did not come up:\n" + "".join(said))


_playing = ExitStack()
_browsers: list[Browser] = []


@pytest.fixture
def browser() -> Browser:
    """One Chromium for all tests of this folder: to start it takes a second, and its first page
    another."""
    if not _browsers:
        executable = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
        assert executable, "no Chromium on this machine: `make test` installs it"
        playwright = _playing.enter_context(sync_playwright())
        chromium = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        _playing.callback(chromium.close)
        _browsers.append(chromium)
    return _browsers[0]


# Not for the whole session: while Playwright runs, asyncio believes itself inside an event loop,
# and the tests of async views need one of their own.
@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    if nextitem is None or nextitem.path.parent != item.path.parent:
        _browsers.clear()
        _playing.close()


@dataclass
class Person:
    """Somebody at a browser of their own, who notices every error on its console."""

    name: str
    page: Page
    errors: list[str] = field(default_factory=list)


def use_link(context: BrowserContext, link: str) -> None:
    """Sends the form that a one-time link leads to. Its page is not drawn, nor the one behind it:
    these two would be most of all pages in the tests."""
    form = context.request.get(link)
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form.text())
    assert form.ok and token, (form.status, form.text()[-2000:])
    sent = context.request.post(link, form={"csrfmiddlewaretoken": token[1]}, max_redirects=0)
    assert sent.status == 302, (sent.status, sent.text()[-2000:])


HANDS = ("check", "clear", "click", "dispatch_event", "drag_to", "fill", "focus", "press",
         "select_option", "set_checked", "set_input_files", "tap", "uncheck")  # fmt: skip


@pytest.fixture(autouse=True)
def hands_wait_for_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page can be read and clicked before its scripts run. What it does then has its own tests;
    in all others it would be now this and now that."""
    for name in ("keyboard", "mouse"):
        monkeypatch.setattr(Page, name, of_a_loaded_page(getattr(Page, name)))
    for name in HANDS:
        monkeypatch.setattr(Locator, name, on_a_loaded_page(getattr(Locator, name)))


def of_a_loaded_page(device: property) -> property:
    def once_loaded(page: Page) -> Keyboard | Mouse:
        page.wait_for_load_state()
        return device.fget(page)

    return property(once_loaded)


def on_a_loaded_page(act: Callable[..., None]) -> Callable[..., None]:
    @wraps(act)
    def once_loaded(place: Locator, *arguments, **options) -> None:
        place.page.wait_for_load_state()
        return act(place, *arguments, **options)

    return once_loaded


@pytest.fixture
def sign_in(site: Site, browser: Browser) -> Iterator[Callable[..., Person]]:
    """sign_in("alice", width=360) opens a browser and uses a one-time link. No page is open yet."""
    contexts: list[BrowserContext] = []
    people: list[Person] = []

    def come_in(name: str, *, width: int = 1280, scheme: str = "light", **options) -> Person:
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, **options
        )
        contexts.append(context)
        context.set_default_timeout(WAIT_MS)
        person = Person(name, context.new_page())
        people.append(person)
        person.page.on("pageerror", lambda error: person.errors.append(str(error)))
        person.page.on(
            "console",
            lambda line: person.errors.append(line.text) if line.type == "error" else None,
        )
        use_link(context, site.manage("login_link", name))
        return person

    yield come_in
    for context in contexts:
        context.close()
    # A content security policy violation is an error on the console, too.
    assert not {person.name: person.errors for person in people if person.errors}
