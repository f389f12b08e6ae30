"""Every page of the site, seen by the least of those who may see it: nothing axe calls serious, in
light and dark, and none over 150 kB. Which pages there are, the addresses themselves say."""

import json

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.urls import reverse
from playwright.sync_api import Page

from tests.browser.conftest import Site
from tests.test_access_matrix import (
    ADMINISTRATOR,
    GUEST,
    LABELER,
    NO_PRACTICE,
    NO_REVIEW,
    OPEN,
    OPERATOR,
    OPERATOR_SOMEWHERE,
    OWN,
    REVIEWER,
    ROUTES,
    SIGNED_IN,
    TOKEN,
    WATCHER,
    least_role,
    owner,
)

LARGEST = 150_000
SEEN_BY = {
    OPEN: "nobody", SIGNED_IN: "gus", GUEST: "gus", LABELER: "alice", NO_PRACTICE: "alice",
    REVIEWER: "rita", NO_REVIEW: "rita", OPERATOR: "olga", OPERATOR_SOMEWHERE: "olga",
    ADMINISTRATOR: "ada",
}  # fmt: skip
# Something of everything an address can name; the round has run its course, so no worker stirs.
WORLD = """
import io, json, shutil
from django.conf import settings
from django.utils import timezone
from annotate.projects import base_policy
from annotate.models import *
from annotate.accounts import addresses
from annotate.people.invitations import Invitation
from annotate.labels.gold import make_gold
from annotate.playground.grids import Column
from annotate.webhooks.models import Event
from annotate.labelling.queue import next_assignment
from annotate.labels.kinds.talk import turns
from annotate.labels.kinds.talk.tasks import open_own_talk
from rlhf.models import *
from rlhf.stages import TRAININGS
project = Project.objects.create(
    name="Whole", slug="whole", random_review_percent=100, new_writer_reviews=0, gold_every=0,
    own_prompts="direct", use_cases="menus",
)
project.publish_guideline(text="Be **brief** and right.", author=None)
roles = {"alice": "labeler", "bob": "labeler", "rita": "reviewer", "olga": "operator"}
people = {name: project.admit(name=name, role=role) for name, role in roles.items()}
User.objects.create_superuser("ada")
people["gus"] = project.admit(name="gus", role="guest")
signed = addresses.key_of(addresses.ask_to_verify(people["gus"], "gus@example.org"))
project.memberships.update(guideline_read=1)
base = base_policy(project, "tiny")
other = project.policies.create(name="other", origin="external")

def task_of(kind, k, **more):
    asked = f"Why? {project.prompts.count()}\\n\\n```python\\nx = 1\\n```"
    messages = [{"role": "user", "content": asked}]
    prompt = Prompt.objects.create(project=project, messages=messages, tags=["t"], source="s")
    task = Task.objects.create(project=project, prompt=prompt, kind=kind, **more)
    for n in range(k):
        policy = [base, other][n % 2]
        said = {"text": f"Because of *{n}*.", "source": "sampled"}
        task.completions.add(Completion.objects.create(prompt=prompt, policy=policy, **said))
    return task

def answer(name, **content):
    work = next_assignment(people[name], project)
    if work.task.kind == "write":
        Demonstration.record(assignment=work, active_seconds=60, **content)
    else:
        order = [Placement(completion_id=pk, place=n) for n, pk in enumerate(work.shown_order, 1)]
        Ranking.record(assignment=work, placements=order, active_seconds=60, **content)
    return work

def hold(name, task, **more):
    shown = {"shown_order": [each.pk for each in task.completions.all()]}
    return Assignment.objects.create(
        task=task, labeler=people[name], leased_until=timezone.now(), **shown, **more
    )

ranked = task_of("rank", 4, overlap=2)
done = answer("alice")
answer("bob", reason="Shorter")
written = task_of("write", 0)
answer("alice", text="So it *is*.")
gold = make_gold(Ranking.objects.get(assignment=done))
gold.use(is_practice=True)
practised = hold("bob", gold, trial="practice")
order = [Placement(completion_id=pk, place=n) for n, pk in enumerate(practised.shown_order, 1)]
Ranking.record(assignment=practised, placements=order)
held = {
    "four": hold("alice", task_of("rank", 4)),
    "two": hold("alice", task_of("rank", 2)),
    "text": hold("alice", task_of("write", 0)),
    "ranking": hold("rita", ranked.reviews.get()),
    "demonstration": hold("rita", written.reviews.get()),
}
def talk(choice=""):
    asked = {"project": project, "first": base, "goal": "A *dinner*", "harm": "violent"}
    plan = TalkPlan(author=people["olga"], **asked)
    work = open_own_talk(plan, project.memberships.get(user=people["alice"]))
    turn = turns.say(work, text="What shall I **cook**?", number=1)
    for answer in turn.pair:
        said = {"state": "done", "text": f"Soup *{answer.place}*."}
        TurnAnswer.objects.filter(pk=answer.pk).update(**said)
    if choice:
        turns.choose(work, turn=turn.pk, choice=choice)
        turns.correct(work, turn=turn.pk, text="Soup, and salad.")
    return work

judging, saying, talked = talk(), talk("a3"), talk("b1")
Talk.record(assignment=talked)
held["talk"] = hold("rita", talked.task.reviews.get())
turn = turns.turns_of(judging)[0]
said = Conversation.start(project=project, guest=people["gus"], text="What is rice?")
Message.objects.filter(pk=said.pk).update(state="done", text="A **grain**.", finish_reason="stop")
key = Share.issue(said.conversation, days=1).rstrip("/").rpartition("/")[2]
grid = Grid.lay_out(
    project=project, author=people["olga"], prompts=["Hello"], columns=[Column(base.pk)]
)
kept = PromptTemplate.keep(
    project=project, name="polite", author=people["olga"], system_prompt="Be polite."
)
round = Round.objects.create(
    project=project, number=1, recipe="tiny", base=base, launched_by=people["olga"]
)
now = timezone.now()
runs = [
    Run.objects.create(
        project=project, round=round, kind=kind, position=n, config={"train": {}, "tune": {}},
        state="succeeded", lease_token=1, step=4, total_steps=4, started_at=now, ended_at=now,
    )
    for n, kind in enumerate([*TRAININGS, "evaluate"])
]
values = {"loss": 0.5, "reward/accuracy": 0.7, "objective/kl": 1.5, "objective/scores": 0.3}
for run in runs:
    for step in range(1, 5):
        Metric.objects.create(
            run=run, lease_token=1, step=step, split="train", values=values, time=now
        )
    Sample.objects.create(
        run=run, lease_token=1, step=4, prompt=ranked.prompt, text="It is.", score=0.5, kl=1
    )
folder = "models/walked"
shutil.copytree(settings.DATA_DIR / base.folder, settings.DATA_DIR / folder)
model = Checkpoint.objects.create(
    run=runs[0], lease_token=1, step=4, folder=folder, manifest_sha256="a" * 64, is_final=True
)
trained = project.policies.create(name="r1-sft", origin="trained", parent=base, folder=folder)
TrainedPolicy.objects.create(policy=trained, checkpoint=model)
Evaluation.objects.create(
    run=runs[-1], round=round, policy=trained, opponent=base, judge="reward_model",
    wins=6, losses=2, ties=2, win_rate=0.7, low=0.55, high=0.82,
)
connection = Connection.objects.create(
    project=project, name="Kitchen AI", base_url="https://kitchen.invalid/v1"
)
Call.objects.bulk_create(
    Call(project=project, policy=each, use="chat", outcome="answered", first_ms=80, total_ms=900)
    for each in (base, trained)
)
judge = Judge.objects.create(
    project=project, name="strict", policy=base, rubric="Be kind.", author=people["olga"]
)
token, _ = ApiToken.issue(project=project, user=people["olga"], scopes=["read"])
webhook = Webhook(project=project, url="https://x.invalid/a", created_by=people["olga"])
webhook.events = [Event.THUMB]
webhook.make_secret()
webhook.save()
delivery = webhook.deliveries.create(event=Event.THUMB, subject="x", data={})
text = io.BytesIO(b"instruction,output\\nSay hello.,Hello\\n")
upload = Upload.keep(project=project, by=people["olga"], file=text, name="x.csv", format="csv")
secret = Invitation.issue(project=project, name="nora2", role="labeler", by=people["olga"])
secret = secret.rstrip("/").rpartition("/")[2]
everywhere = {
    "secret": secret, "key": key, "signed": signed, "ending": "md", "question_id": said.answers_id,
    "share_id": said.conversation.shares.get().pk,
    "slug": "whole", "username": "alice", "uid": "x", "token": "x-x", "kind": "prompts",
    "upload_id": upload.pk,
    "assignment_id": held["four"].pk, "prompt_id": ranked.prompt_id, "number": 1,
    "conversation_id": said.conversation_id, "message_id": said.pk, "policy_id": trained.pk,
    "run_id": runs[0].pk, "model_id": model.pk, "grid_id": grid.pk, "row": 0, "column": 0,
    "template_id": kept.pk,
    "judge_id": judge.pk, "format": "csv", "token_id": token.pk, "webhook_id": webhook.pk,
    "delivery_id": delivery.pk,
    "talk_id": judging.pk, "turn_id": turn.pk, "answer_id": turn.pair[0].pk,
    "task_id": ranked.pk, "connection_id": connection.pk,
    "membership_id": project.memberships.get(user=people["alice"]).pk,
}
somewhere = [
    ["alice", "assignment", held["two"].pk],
    ["alice", "assignment", held["text"].pk],
    ["alice", "assignment", done.pk],
    ["alice", "assignment", judging.pk],
    ["alice", "assignment", saying.pk],
    ["alice", "assignment", talked.pk],
    ["bob", "practice", practised.pk],
    ["rita", "labelers_answer", done.pk],
    ["rita", "review_one", held["ranking"].pk],
    ["rita", "review_one", held["demonstration"].pk],
    ["rita", "review_one", held["talk"].pk],
]
print(json.dumps([everywhere, somewhere]))
"""


def serious(page: Page, **options: object) -> list[str]:
    asked = {"resultTypes": ["violations"], **options}
    found = Axe().run(page, options=asked).response["violations"]
    return [
        f"{each['id']}: {each['nodes'][0]['html'][:200]}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


GONE = ("/sign-in/x/", "/sign-in/password/x/")


class Visitor:
    """Looks at pages one after the other, none of it from a cache."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.weight = 0
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        session.send("Network.setCacheDisabled", {"cacheDisabled": True})
        session.on("Network.loadingFinished", self._weigh)

    def _weigh(self, event: dict[str, float]) -> None:
        self.weight += int(event["encodedDataLength"])

    def look(self, address: str) -> list[str] | None:
        """What is wrong with this page. None: it is none, but a file, an act or a part."""
        answer = self.page.request.get(address)
        is_page = "text/html" in answer.headers.get("content-type", "") and "<html" in answer.text()
        if answer.status == 405 or not is_page:
            return None
        gone = any(each in address for each in GONE)  # says so on a page of its own
        assert answer.status == (410 if gone else 200), (address, answer.status)
        self.weight = 0
        self.page.goto(address, wait_until="load")
        self.page.emulate_media(color_scheme="light")
        wrong = serious(self.page)
        self.page.emulate_media(color_scheme="dark")
        # The other scheme changes colours and nothing else.
        wrong += serious(self.page, runOnly=["color-contrast"])
        return [*wrong, f"weighs {self.weight}"] if self.weight > LARGEST else wrong


@pytest.mark.timeout(600)
def test_every_page_is_accessible_and_light(site: Site, browser, sign_in):
    everywhere, somewhere = json.loads(site.shell(WORLD).splitlines()[-1])
    names = {"gus", "alice", "bob", "rita", "olga", "ada"}
    still = {"reduced_motion": "reduce"}  # no colour on its way to another is measured
    visitors = {name: Visitor(sign_in(name, **still).page) for name in names}
    stranger = browser.new_context(**still)
    visitors["nobody"] = Visitor(stranger.new_page())
    walk = [(who, name, everywhere | {"assignment_id": pk}) for who, name, pk in somewhere]
    for name, _ in ROUTES:
        role = least_role(name)
        if role not in (TOKEN, WATCHER, NO_REVIEW, NO_PRACTICE):
            walk.append((owner(name) if role == OWN else SEEN_BY[role], name, everywhere))
    wrong, seen = {}, set()
    for who, name, named in walk:
        address = reverse(name, kwargs={each: named[each] for each in dict(ROUTES)[name]})
        found = visitors[who].look(site.url + address)
        if found is not None:
            seen.add(name)
        if found:
            wrong[f"{address} for {who}"] = found
    stranger.close()
    assert not wrong
    assert len(seen) >= 40, sorted(seen)
