"""The policy that answers is changed under guests who are reading: no stream breaks."""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import pytest

from tests.browser.conftest import Site

GUESTS = 6
SET_UP = """
import json
import shutil
from django.conf import settings
from annotate.models import Project
from annotate.projects import base_policy
project = Project.objects.create(name="Switch", slug="switch")
project.publish_guideline(text="Be brief.", author=None)
project.admit(name="olga", role="operator")
for n in range(%d):
    project.admit(name=f"switch-{n}", role="guest")
base = settings.DATA_DIR / base_policy(project, "tiny").folder
for name in ("old", "new"):
    policy = project.policies.create(
        name=name, origin="base", folder=f"models/switch-{name}", max_new_tokens=400
    )
    folder = settings.DATA_DIR / policy.folder
    shutil.copytree(base, folder)
    # No token ends its answers: a stream lasts long enough to be open at any moment.
    for file in ("config.json", "generation_config.json"):
        told = json.loads((folder / file).read_text()) | {"eos_token_id": None}
        (folder / file).write_text(json.dumps(told))
project.policies.get(name="old").go_live()
print(policy.pk)
"""
ANSWERS = """
import json
from annotate.models import Message, Project
project = Project.objects.get(slug="switch")
answers = Message.objects.filter(conversation__project=project, role="assistant").order_by("pk")
print(json.dumps({
    "answers": [
        {"policy": a.policy.name, "state": a.state, "asked": a.created_at.timestamp(),
         "ended": a.heard_at.timestamp()}
        for a in answers.select_related("policy")
    ],
    "decided": [p.created_at.timestamp() for p in project.promotions.order_by("pk")],
}))
"""


class Browser(httpx.Client):
    """Signed in by a link, as a person would be; no drawing."""

    def __init__(self, site: Site, name: str) -> None:
        super().__init__(base_url=site.url, timeout=120, follow_redirects=True, trust_env=False)
        link = site.manage("login_link", name)
        self.send_form(link, link)

    def send_form(self, page: str, address: str, **values: object) -> httpx.Response:
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', self.get(page).text)
        assert token, page
        reply = self.post(address, data={"csrfmiddlewaretoken": token[1], **values})
        assert reply.status_code == 200, reply.text
        return reply


@dataclass
class Reading:
    """Guests who ask again as soon as they have their answer."""

    site: Site
    streams: int = 0
    broken: list[str] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)

    def read(self, browser: Browser) -> None:
        while not self.is_over.is_set():
            page = browser.get("/p/switch/chat/new/").text
            token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
            assert token
            form = {"csrfmiddlewaretoken": token[1], "text": "Name a fruit."}
            sent = browser.post("/p/switch/chat/new/", data=form, headers={"HX-Request": "true"})
            page = browser.get(sent.headers["HX-Redirect"]).text
            stream = re.search(r'data-stream="([^"]+)"', page)
            if stream and "event: done" not in browser.get(stream[1]).text:
                self.broken.append(stream[1])
            self.streams += 1


@contextmanager
def guests_reading(site: Site) -> Iterator[Reading]:
    reading = Reading(site)
    browsers = [Browser(site, f"switch-{n}") for n in range(GUESTS)]
    threads = [threading.Thread(target=reading.read, args=[each]) for each in browsers]
    for thread in threads:
        thread.start()
    try:
        yield reading
    finally:
        reading.is_over.set()
        for thread in threads:
            thread.join(120)


def wait_for_streams(reading: Reading, more: int) -> None:
    wanted, until = reading.streams + more, time.monotonic() + 120
    while reading.streams < wanted:
        assert time.monotonic() < until, "the guests get no answers"
        time.sleep(0.05)


@dataclass
class Decision:
    """When it was asked for and when that was answered; after that it holds for everybody."""

    sent: float
    answered: float


def decide(olga: Browser, page: str, act: str, **why: str) -> Decision:
    sent = time.time()
    olga.send_form(f"/p/switch/policies/{page}", f"/p/switch/policies/{act}", **why)
    return Decision(sent, time.time())


@pytest.mark.timeout(400)
def test_a_promotion_and_a_roll_back_break_no_stream_and_hold_from_the_next_question(site: Site):
    new = site.shell(SET_UP % GUESTS)
    olga = Browser(site, "olga")
    why = {"reason": "better", "override": "for the test"}
    with guests_reading(site) as reading:
        wait_for_streams(reading, GUESTS)
        promotion = decide(olga, f"{new}/gate/", f"{new}/gate/", **why)
        wait_for_streams(reading, 2 * GUESTS)
        roll_back = decide(olga, "", "roll-back/", reason="worse")
        wait_for_streams(reading, 2 * GUESTS)
    seen = json.loads(site.shell(ANSWERS))
    assert not reading.broken
    assert {each["state"] for each in seen["answers"]} == {"done"}
    for moment in seen["decided"]:
        across = [each for each in seen["answers"] if each["asked"] < moment < each["ended"]]
        assert across, "no stream was open across the switch"
    for speaker, since, until in (
        ("old", 0.0, promotion.sent),
        ("new", promotion.answered, roll_back.sent),
        ("old", roll_back.answered, float("inf")),
    ):
        heard = [each["policy"] for each in seen["answers"] if since < each["asked"] < until]
        assert heard and set(heard) == {speaker}
    took = [round(each.answered - each.sent, 2) for each in (promotion, roll_back)]
    print("seconds from the click to the other policy:", took, "streams:", reading.streams)
