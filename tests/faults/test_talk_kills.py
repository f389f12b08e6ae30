"""A talk loses nothing that was said, though the labeler hangs up and the web is killed in the
middle of both answers."""

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlencode

import pytest
from django.utils import timezone

from annotate.labelling.queue import next_assignment
from annotate.labels.kinds.talk import turns
from annotate.labels.kinds.talk.tasks import open_talks
from annotate.models import Assignment, Policy, Ranking, TalkPlan, TurnAnswer
from tests.browser.test_talking import Numbering
from tests.faults.conftest import sized
from tests.faults.test_f4_web_kills import Web, session_of, web
from tests.model_server import serving
from tests.rlhf.conftest import beside_the_test, wait_for

pytestmark = pytest.mark.django_db(transaction=True)
TURNS = sized(short=3, long=12)
KILLED_IN = {2, *range(4, 13, 2)}


class Labeler:
    """At a browser with JavaScript: says something, and then reads both answers as they come."""

    def __init__(self, site: Web, work: Assignment) -> None:
        self.site, self.address = site, f"/p/cooking/label/{work.pk}/"
        cookies = f"sessionid={session_of(work.labeler)}; csrftoken={'a' * 32}"
        self.headers = {"cookie": cookies, "x-csrftoken": "a" * 32, "HX-Request": "true"}

    def post(self, act: str, **form: str) -> None:
        """Till it is answered: the web may be about to come up."""
        body = urlencode({"idempotency_key": "6" * 32, "active_seconds": "9", **form})
        headers = {**self.headers, "content-type": "application/x-www-form-urlencoded"}
        wait_for(lambda: self._ask("POST", act, body, headers) in (200, 302))

    def begin_to_read(self, answer: int) -> HTTPConnection:
        line = HTTPConnection("127.0.0.1", self.site.port, timeout=30)
        line.request("GET", f"{self.address}talk/answers/{answer}/stream/", headers=self.headers)
        reply = line.getresponse()
        while b"This is " not in reply.readline():
            pass
        return line

    def read(self, answer: int) -> None:
        wait_for(
            lambda: self._ask("GET", f"talk/answers/{answer}/stream/", None, self.headers) == 200
        )

    def _ask(self, method: str, act: str, body: str | None, headers: dict[str, str]) -> int:
        with closing(HTTPConnection("127.0.0.1", self.site.port, timeout=30)) as line:
            try:
                line.request(method, self.address + act, body, headers)
                reply = line.getresponse()
                reply.read()
                return reply.status
            except (OSError, HTTPException):
                return 0


@pytest.fixture
def work(project, olga, alice) -> Callable[[str], Assignment]:
    def make(endpoint: str) -> Assignment:
        project.memberships.update(guideline_read=1)
        cook, baker = (
            Policy.objects.create(
                project=project, name=name, origin="prompted", endpoint=endpoint, model_name=name
            )
            for name in ("cook", "baker")
        )
        plan = TalkPlan(project=project, first=cook, second=baker, goal="A meal.", author=olga)
        open_talks(plan, count=1)
        found = next_assignment(alice, project)
        assert found
        return found

    return make


def test_what_was_said_outlives_the_browser_and_the_web(project, data_dir, work, report):
    with serving(Numbering()) as server:
        assert isinstance(server, Numbering)
        talk = work(server.url)
        with web({**beside_the_test(data_dir), "INFERENCE_ENDPOINTS": server.url}) as site:
            alice = Labeler(site, talk)
            for number in range(1, TURNS + 1):
                server.waits = number in KILLED_IN
                server.go_on.clear()
                alice.post(f"talk/say/{number}/", said=f"Message {number}")
                pair = turn_of(talk, number).pair
                if number in KILLED_IN:
                    lines = [alice.begin_to_read(answer.pk) for answer in pair]
                    wait_for(lambda: all(each.text for each in turn_of(talk, number).pair))  # noqa: B023
                    site.kill()
                    for line in lines:
                        line.close()
                    site.start()
                    server.waits = False
                    server.go_on.set()
                    there = turn_of(talk, number)
                    assert there.said == f"Message {number}"
                    assert [answer.text for answer in there.pair] == ["This is ", "This is "]
                    silence_is_over(pair)
                    for answer in pair:
                        alice.post(f"talk/answers/{answer.pk}/retry/")
                for answer in pair:
                    alice.read(answer.pk)
                alice.post(f"talk/turns/{turn_of(talk, number).pk}/choose/", choice="b3")
            alice.post("")
    said = Ranking.objects.order_by("pk").values_list("prompt__messages", flat=True)
    report(turns=TURNS, kills=len(KILLED_IN & {*range(1, TURNS + 1)}), rankings=len(said))
    assert [len(messages) for messages in said] == [2 * n + 1 for n in range(TURNS)]
    mine = [each["content"] for each in said[TURNS - 1] if each["role"] == "user"]
    assert mine == [f"Message {n}" for n in range(1, TURNS + 1)]
    theirs = [each["content"] for each in said[TURNS - 1] if each["role"] == "assistant"]
    assert all(each.startswith("This is answer number ") for each in theirs)


def turn_of(talk: Assignment, number: int) -> turns.Turn:
    [found] = [each for each in turns.turns_of(talk) if each.number == number]
    return found


def silence_is_over(pair: list[TurnAnswer]) -> None:
    """As after half a minute in which nobody was heard writing these."""
    long_ago = timezone.now() - timedelta(minutes=1)
    TurnAnswer.objects.filter(pk__in=[each.pk for each in pair]).update(heard_at=long_ago)
