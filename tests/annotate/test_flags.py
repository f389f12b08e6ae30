"""Flags on prompts: put up beside the work, seen and settled by the leads."""

import re
import uuid

import pytest

from annotate.labelling.queue import next_assignment
from annotate.models import PromptFlag
from annotate.views.home import to_do

pytestmark = pytest.mark.django_db
FLAG = {"flag-reason": "sensitive", "flag-note": "It names a person."}


@pytest.fixture(params=["write", "rank"])
def work(request, write_task, rank_task, alice, project):
    write_task() if request.param == "write" else rank_task()
    return next_assignment(alice, project)


@pytest.fixture
def address(work) -> str:
    return f"/p/cooking/label/{work.pk}/"


def typed(work) -> dict[str, str]:
    """What stands in the fields of the page, unfinished."""
    if work.task.kind == "write":
        return {"text": "Half an ans", "comment": "Hm."}
    first = work.shown_order[0]
    return {f"place_{first}": "2", f"rating_{first}": "5", "comment": "Hm."}


@pytest.mark.parametrize("htmx", [True, False])
def test_a_flag_is_put_up_and_the_work_stays_as_it_is(htmx, work, address, browse, alice):
    headers = {"HX-Request": "true"} if htmx else {}
    page = browse(alice).post(f"{address}flag/", typed(work) | FLAG, headers=headers)
    shown = page.content.decode()
    flag = PromptFlag.objects.get()
    assert (flag.prompt, flag.labeler, flag.reason) == (work.task.prompt, alice, "sensitive")
    assert page.status_code == 200 and "You flagged this prompt: sensitive" in shown
    assert ("<html" in shown) != htmx
    if not htmx:
        form = page.context["form"]
        assert all(str(form[name].value()) == value for name, value in typed(work).items())
        assert not form.errors
    work.refresh_from_db()
    assert work.state == "leased"
    assert "You flagged this prompt" in browse(alice).get(address).content.decode()


def test_no_browser_asks_for_a_flag_before_it_submits_the_work(address, browse, alice):
    page = browse(alice).get(address).content.decode()
    fields = re.findall(r'<(?:input|textarea)[^>]*name="flag-[^>]*>', page)
    assert len(fields) == 7
    assert not [field for field in fields if "required" in field]


def test_the_flags_of_a_page_are_no_draft_and_no_answer(work, address, browse, alice):
    browse(alice).post(f"{address}draft/", typed(work) | FLAG)
    work.refresh_from_db()
    assert set(work.draft) == set(typed(work))
    assert not PromptFlag.objects.exists()


@pytest.mark.parametrize(
    "sent, sentence",
    [({}, "Choose what is wrong"), ({"flag-reason": "ugly"}, "not one of the available")],
)
def test_a_flag_without_a_reason_is_told_so_and_nothing_typed_is_lost(
    sent, sentence, work, address, browse, alice
):
    page = browse(alice).post(f"{address}flag/", typed(work) | sent)
    assert page.status_code == 422
    assert sentence in page.content.decode() and "Hm." in page.content.decode()
    assert not PromptFlag.objects.exists()


def test_an_answer_that_is_being_corrected_can_be_flagged_too(write_task, alice, project, browse):
    write_task()
    work = next_assignment(alice, project)
    address = f"/p/cooking/label/{work.pk}/"
    client = browse(alice)
    client.post(address, {"text": "Boil it.", "idempotency_key": str(uuid.uuid4())})
    page = client.post(f"{address}flag/", {"text": "Boil it well.", "revision_no": "1"} | FLAG)
    form = page.context["form"]
    assert (form["text"].value(), form["revision_no"].value()) == ("Boil it well.", "1")
    sent = {"text": "Boil it well.", "revision_no": "1", "idempotency_key": str(uuid.uuid4())}
    client.post(address, sent)
    assert work.label.text == "Boil it well."


def test_one_flag_a_person_which_may_be_changed_and_taken_back(address, browse, alice):
    client = browse(alice)
    client.post(f"{address}flag/", FLAG)
    client.post(f"{address}flag/", {"flag-reason": "unclear"})
    flag = PromptFlag.objects.get()
    assert (flag.reason, flag.note) == ("unclear", "")
    page = client.post(f"{address}flag/", {"take_down": ""}).content.decode()
    assert "Flag this prompt…" in page
    assert not PromptFlag.objects.exists()


def test_nobody_flags_through_the_work_of_another(address, browse, bob, mallory):
    for person in (bob, mallory):
        assert browse(person).post(f"{address}flag/", FLAG).status_code == 404
    assert not PromptFlag.objects.exists()


@pytest.fixture
def flagged(new_prompt, alice, bob):
    """{name: prompt}, flagged by name."""
    reasons = {"unclear": ["unclear", "duplicate"], "like": ["duplicate"], "good": []}
    prompts = {name: new_prompt(f"A {name} prompt") for name in reasons}
    for name, given in reasons.items():
        for labeler, reason in zip((alice, bob), given, strict=False):
            PromptFlag.put_up(prompt=prompts[name], labeler=labeler, reason=reason, note="See.")
    return prompts


@pytest.mark.parametrize(
    "asked, found",
    [
        ("any", {"unclear", "like"}),
        ("duplicate", {"unclear", "like"}),
        ("unclear", {"unclear"}),
        ("harmful", set()),
        ("", {"unclear", "like", "good"}),
    ],
)
def test_operators_find_flagged_prompts(asked, found, flagged, browse, olga):
    page = browse(olga).get("/p/cooking/prompts/", {"flag": asked}).content.decode()
    assert {name for name in flagged if f"A {name} prompt" in page} == found


def test_flags_await_the_operator_until_they_are_settled(flagged, browse, olga, alice):
    client = browse(olga)
    [step] = [step for step in to_do(olga.memberships.get()) if step.query]
    assert (step.count, step.query) == ("2", "?flag=any")
    client.post(
        "/p/cooking/prompts/mark/",
        {"flag": "any", "act": "settle", "chosen": [flagged["like"].pk]},
    )
    assert list(PromptFlag.objects.open().values_list("prompt", flat=True)) == (
        [flagged["unclear"].pk] * 2
    )
    assert "See." in client.get(f"/p/cooking/prompts/{flagged['unclear'].pk}/").content.decode()
    # Somebody who finds the same again is heard again.
    PromptFlag.put_up(prompt=flagged["like"], labeler=alice, reason="unclear")
    assert PromptFlag.objects.open().count() == 3


def test_what_is_flagged_is_archived_at_once(flagged, browse, olga, project):
    browse(olga).post("/p/cooking/prompts/mark/", {"flag": "duplicate", "act": "archive"})
    assert list(project.prompts.active()) == [flagged["good"]]
    assert not [step for step in to_do(olga.memberships.get()) if step.query]


def test_reviewers_read_flags_among_what_labelers_say(flagged, browse, rita):
    page = browse(rita).get("/p/cooking/progress/").content.decode()
    assert "a flag: unclear" in page and "a flag: like another prompt" in page
