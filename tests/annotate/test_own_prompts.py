"""Prompts that labelers write themselves, and what operators make of them."""

import io
import json

import pytest

from annotate.exchange.exports.exporting import lines
from annotate.exchange.importing import import_labels
from annotate.labelling.own_prompts import few_shot
from annotate.models import Demonstration, Project, Prompt, PromptDraft, Task
from annotate.prompts.models import split_of
from annotate.views.home import to_do

pytestmark = pytest.mark.django_db
PAGE = "/p/cooking/my-prompts/"
PLAIN = {"text": "How do I poach an egg?", "answer": "In water that just simmers."}
PAIRS = [("flour", "dry"), ("milk", "wet"), ("oil", "wet")]
FEW_SHOT = {
    "instruction": "Is it dry or wet?",
    **{f"query_{n}": query for n, (query, _) in enumerate(PAIRS, start=1)},
    **{f"response_{n}": response for n, (_, response) in enumerate(PAIRS, start=1)},
}


@pytest.fixture(params=["reviewed", "direct"])
def mode(request, project) -> str:
    project.own_prompts = request.param
    project.use_cases = "menus\nshopping lists"
    project.save()
    return request.param


@pytest.fixture
def direct(project) -> None:
    Project.objects.update(own_prompts=Project.OwnPrompts.DIRECT)


def test_a_project_that_takes_none_has_no_such_page(browse, alice):
    assert browse(alice).get(PAGE).status_code == 404
    assert browse(alice).post(PAGE, PLAIN).status_code == 404
    assert not Prompt.objects.exists()


@pytest.mark.parametrize(
    "kind, sent, count",
    [
        ("plain", PLAIN, 1),
        ("use_case", {**PLAIN, "use_case": "menus"}, 1),
        ("few_shot", FEW_SHOT, 3),
    ],
)
def test_a_prompt_of_each_kind_is_in_use_as_the_project_has_it(
    kind, sent, count, mode, browse, alice, project
):
    page = browse(alice).post(f"{PAGE}?kind={kind}", sent, follow=True)
    assert page.redirect_chain
    written = list(project.prompts.all())
    assert len(written) == count
    assert {(p.kind, p.author, p.source) for p in written} == {(kind, alice, "labelers")}
    assert all(p.tags == (["menus"] if kind == "use_case" else []) for p in written)
    assert project.prompts.active().count() == (count if mode == "direct" else 0)
    assert project.prompts.waiting().count() == (0 if mode == "direct" else count)
    assert not project.prompts.archived().exists()
    shown = page.content.decode()
    assert shown.count("waiting for an operator") == (0 if mode == "direct" else count)
    answers = Demonstration.objects.current()
    assert {a.prompt_id for a in answers} == {p.pk for p in written}
    assert {(a.guideline_version, a.assignment.task.closed_at is None) for a in answers} == {
        (1, False)
    }


def test_each_query_of_a_group_is_asked_after_the_others_and_all_stay_in_one_split(
    direct, browse, alice, project
):
    browse(alice).post(f"{PAGE}?kind=few_shot", FEW_SHOT)
    first, second, third = project.prompts.order_by("pk")
    assert [turn["content"] for turn in second.messages] == [
        *("Is it dry or wet?", "flour", "dry", "oil", "wet", "milk"),
    ]
    assert [turn["role"] for turn in second.messages] == [
        *("system", "user", "assistant", "user", "assistant", "user"),
    ]
    assert [each.demonstrations.get().text for each in (first, second, third)] == [
        *("dry", "wet", "wet"),
    ]
    assert len({each.split_key for each in (first, second, third)}) == 1
    assert {each.split for each in (first, second, third)} == {split_of(first.split_key)}
    # By their own hashes they would be apart, for some instruction at least.
    alone = {
        Prompt(project=project, messages=messages).derive().split
        for number in range(20)
        for messages, _ in few_shot(f"Dry or wet? {number}", PAIRS)
    }
    assert len(alone) > 1


def test_what_is_sent_twice_is_there_once(direct, browse, alice):
    for _ in range(2):
        assert browse(alice).post(PAGE, PLAIN).status_code == 302
    assert (Prompt.objects.count(), Demonstration.objects.count()) == (1, 1)


def test_line_ends_of_a_browser_make_no_other_prompt(direct, browse, alice, new_prompt):
    new_prompt("One\ntwo")
    page = browse(alice).post(PAGE, {"text": "One\r\ntwo"})
    assert page.status_code == 422 and Prompt.objects.count() == 1


@pytest.mark.parametrize(
    "kind, sent, sentence",
    [
        ("plain", {"text": " "}, "Write what you would ask"),
        ("plain", {"text": "How do I boil an egg?", "answer": "Ten minutes."}, "already exists"),
        ("plain", {"text": "a\x00b"}, "Null characters"),
        ("plain", {"text": "x" * 32_001}, "at most 32000 characters"),
        ("use_case", {**PLAIN, "use_case": "cars"}, "not one of the available choices"),
        ("few_shot", {**FEW_SHOT, "response_2": ""}, "Each query needs a response"),
        ("few_shot", {**FEW_SHOT, "query_2": "flour", "query_3": "flour"}, "two different queries"),
        ("few_shot", {**FEW_SHOT, "response_3": "x" * 32_000}, "Together that is"),
    ],
)
def test_a_mistake_is_named_and_what_was_typed_stays(
    kind, sent, sentence, direct, browse, alice, new_prompt
):
    new_prompt()
    Project.objects.update(use_cases="menus")
    page = browse(alice).post(f"{PAGE}?kind={kind}", sent)
    shown = page.content.decode()
    assert page.status_code == 422
    assert sentence in shown
    assert all(value in shown for value in sent.values() if value.isprintable())
    assert (Prompt.objects.count(), Demonstration.objects.count()) == (1, 0)


def test_a_second_answer_to_an_own_prompt_is_not_lost_but_sent_to_my_work(direct, browse, alice):
    browse(alice).post(PAGE, PLAIN)
    page = browse(alice).post(PAGE, {**PLAIN, "answer": "In vinegar."})
    assert page.status_code == 422
    assert "Edit that one in My work" in page.content.decode()
    assert "In vinegar." in page.content.decode()


def test_one_more_pair_keeps_what_was_typed_and_complains_of_nothing(direct, browse, alice):
    page = browse(alice).post(f"{PAGE}?kind=few_shot", {"query_1": "flour", "more": ""})
    shown = page.content.decode()
    assert page.status_code == 200
    assert "flour" in shown and 'name="query_3"' in shown and 'name="query_4"' not in shown
    sent = {**FEW_SHOT, "more": ""}
    shown = browse(alice).post(f"{PAGE}?kind=few_shot", sent).content.decode()
    assert 'name="query_4"' in shown and "errorlist" not in shown
    assert not Prompt.objects.exists()


def test_the_guideline_is_read_first(direct, browse, alice, project):
    project.publish_guideline(text="Ask about food.", author=None)
    assert browse(alice).get(PAGE)["location"] == "/p/cooking/guideline/"
    browse(alice).post(PAGE, PLAIN)
    assert not Prompt.objects.exists()


@pytest.fixture
def waiting(project, browse, alice) -> Prompt:
    Project.objects.update(own_prompts=Project.OwnPrompts.REVIEWED)
    browse(alice).post(PAGE, PLAIN)
    return project.prompts.get()


def test_operators_find_what_waits_and_decide(waiting, browse, olga, project):
    [step] = [s for s in to_do(olga.memberships.get()) if s.query]
    assert step.count == "1"
    page = browse(olga)
    assert waiting.text not in page.get("/p/cooking/prompts/").content.decode()
    assert waiting.text not in page.get("/p/cooking/prompts/?archived=on").content.decode()
    found = page.get(f"/p/cooking/prompts/{step.query}").content.decode()
    assert waiting.text in found and "alice, plain" in found and "Ask for rankings" not in found
    form = {"waiting": "on", "chosen": [waiting.pk], "act": "accept"}
    page.post("/p/cooking/prompts/mark/", form)
    assert project.prompts.active().get() == waiting
    assert waiting.text in page.get("/p/cooking/prompts/?written=plain").content.decode()
    assert waiting.text not in page.get("/p/cooking/prompts/?written=few_shot").content.decode()


def test_what_is_declined_stays_archived_and_its_reviews_end(project, browse, alice, olga):
    Project.objects.update(own_prompts=Project.OwnPrompts.REVIEWED, new_writer_reviews=3)
    browse(alice).post(PAGE, PLAIN)
    assert project.tasks.open().of_kind(Task.Kind.REVIEW).exists()
    browse(olga).post("/p/cooking/prompts/mark/", {"waiting": "on", "act": "decline"})
    assert not project.tasks.open().exists()
    assert project.prompts.archived().count() == 1 and not project.prompts.waiting().exists()
    assert "not in use" in browse(alice).get(PAGE).content.decode()


def test_nobody_is_asked_about_a_prompt_that_waits(waiting, browse, olga, project):
    browse(olga).post("/p/cooking/prompts/tasks/", {"waiting": "on", "kind": "write"})
    browse(olga).post("/p/cooking/prompts/mark/", {"archived": "on", "act": "restore"})
    assert not project.tasks.open().exists()
    assert project.prompts.waiting().exists()


def test_what_waits_is_not_exported_with_the_rest(waiting, project):
    assert not list(lines(project, "prompts"))
    assert not list(lines(project, "demonstrations"))
    [line] = lines(project, "prompts", prompts=project.prompts.waiting())
    assert json.loads(line)["labeler"] == "alice"


def test_who_wrote_a_prompt_and_how_goes_out_and_comes_in(direct, browse, alice, olga, project):
    browse(alice).post(f"{PAGE}?kind=few_shot", FEW_SHOT)
    written = list(project.prompts.all())
    text = "".join(lines(project, "prompts"))
    there = Project.objects.create(name="There", slug="there")
    import_labels(io.BytesIO(text.encode()), project=there, by=olga)
    for old, new in zip(written, there.prompts.all(), strict=True):
        assert (new.kind, new.split_key, new.split) == (old.kind, old.split_key, old.split)
        assert new.author.labeler_name == "alice"
    line = {**json.loads(text.splitlines()[0]), "split_key": "mine"}
    with pytest.raises(Exception, match="sha256"):
        import_labels(io.BytesIO(json.dumps(line).encode()), project=there, by=olga)


def test_a_use_case_is_a_tag_and_no_longer(project, browse, olga):
    from annotate.views.project import SettingsForm

    form = SettingsForm(instance=project)
    values = {name: form[name].value() for name in form.fields}
    sent = {name: v for name, v in values.items() if v is not False and v is not None}
    page = browse(olga)
    page.post("/p/cooking/settings/", sent | {"use_cases": " menus \n\nmenus\nlists"})
    project.refresh_from_db()
    assert project.use_case_names == ["menus", "lists"]
    answer = page.post("/p/cooking/settings/", sent | {"use_cases": "x" * 51})
    assert answer.status_code == 422 and "50 characters" in answer.content.decode()


# Drafts

DRAFT = PAGE + "draft/"


@pytest.mark.parametrize(
    ("kind", "typed"),
    [
        ("plain", {"text": "How do I", "answer": ""}),
        ("use_case", {"use_case": "shopping lists", "text": "What", "answer": "Rice"}),
        ("few_shot", {"instruction": "", **{f"query_{n}": f"q {n}" for n in range(1, 6)}}),
    ],
)
def test_what_is_being_written_is_there_again_till_it_is_saved(mode, kind, typed, browse, alice):
    assert browse(alice).post(f"{DRAFT}?kind={kind}", typed).status_code == 302
    page = browse(alice).get(f"{PAGE}?kind={kind}")
    assert "Draft restored" in page.content.decode()
    assert {name: page.context["form"][name].value() for name in typed} == typed
    other = "plain" if kind != "plain" else "few_shot"
    assert not browse(alice).get(f"{PAGE}?kind={other}").context["draft"]
    whole = {"plain": PLAIN, "use_case": {**PLAIN, "use_case": "menus"}, "few_shot": FEW_SHOT}[kind]
    browse(alice).post(f"{PAGE}?kind={kind}", whole)
    assert not PromptDraft.objects.exists()


def test_a_draft_is_its_writers_own_and_goes_when_nothing_is_left_of_it(mode, browse, alice, bob):
    browse(alice).post(DRAFT, {"text": "a\x00b", "csrfmiddlewaretoken": "x", "other": "y"})
    assert PromptDraft.objects.get().values == {"text": "ab", "answer": ""}
    assert not browse(bob).get(PAGE).context["draft"]
    browse(alice).post(f"{DRAFT}?kind=use_case", {"use_case": "menus", "text": ""})
    browse(alice).post(DRAFT, {"text": ""})
    assert not PromptDraft.objects.exists()


def test_what_cannot_be_saved_stays_a_draft(direct, browse, alice, new_prompt):
    new_prompt(PLAIN["text"])
    browse(alice).post(DRAFT, PLAIN)
    assert browse(alice).post(PAGE, PLAIN).status_code == 422
    assert PromptDraft.objects.get().values == PLAIN
