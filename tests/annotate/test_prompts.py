"""The operator's pages of prompts: who may see them, what they show, how data gets in and out."""

import json
import re
from html import unescape
from importlib import import_module

import pytest
from django.apps import apps

from annotate.labelling.queue import next_assignment
from annotate.models import (
    Completion,
    Demonstration,
    Feedback,
    Placement,
    Policy,
    Prompt,
    PromptFlag,
    Ranking,
    Task,
)
from annotate.prompts.models import content_hash, prompt_key, split_of

pytestmark = pytest.mark.django_db
LINE = '{"prompt": "Why is the sky blue?"}'


def url(page: str = "", slug: str = "cooking") -> str:
    return f"/p/{slug}/prompts/{page}"


@pytest.fixture
def at(browse, olga):
    return browse(olga)


@pytest.mark.parametrize(
    "method, page",
    [
        ("get", ""),
        ("get", "PROMPT/"),
        ("get", "import/"),
        ("post", "import/"),
        ("post", "tasks/"),
        ("post", "mark/"),
        ("get", "export/prompts/"),
    ],
)
def test_only_operators_of_the_project_come_in(method, page, browse, request, new_prompt):
    address = url(page.replace("PROMPT", str(new_prompt().pk)))
    expected = {"alice": 403, "rita": 403, "gus": 403, "mallory": 404}
    for name, status in expected.items():
        client = browse(request.getfixturevalue(name))
        assert getattr(client, method)(address, {"text": LINE}).status_code == status
    assert Prompt.objects.count() == 1


def test_a_prompt_of_another_project_is_not_found(mallory, browse, new_prompt):
    assert browse(mallory).get(url(f"{new_prompt().pk}/", "elsewhere")).status_code == 404


def test_the_list_shows_counts_and_pages(at, rank_task, new_prompt):
    rank_task(k=3)
    for number in range(50):
        new_prompt(f"Filler {number}")
    first = at.get(url()).content.decode()
    assert "51 prompts" in first
    assert 'data-label="Completions">3</td>' in first
    assert "Filler 49" not in first
    onward = re.search(r'href="(\?after=\d+)">Next', first).group(1)
    second = at.get(url(onward)).content.decode()
    assert "Filler 49" in second and "Filler 1<" not in second
    back = re.search(r'href="(\?before=\d+)"', second).group(1)
    assert "Filler 1<" in at.get(url(back)).content.decode()


def test_the_list_costs_the_same_however_long(at, new_prompt, django_assert_max_num_queries):
    for number in range(40):
        new_prompt(f"Filler {number}")
    with django_assert_max_num_queries(9):
        at.get(url())


@pytest.mark.parametrize(
    "asked, found",
    [
        ({"words": "EGG"}, {"egg"}),
        ({"source": "book"}, {"egg"}),
        ({"tag": "short"}, {"egg", "tea"}),
        ({"tag": "short", "words": "tea"}, {"tea"}),
        ({"split": "train"}, {"egg", "tea", "pie"}),
        ({"split": "test"}, set()),
        ({"split": "nonsense"}, set()),
    ],
)
def test_the_filters_find_what_they_say(asked, found, at, project):
    for name, source, tags in (("egg", "book", ["short"]), ("tea", "", ["short"]), ("pie", "", [])):
        prompt = Prompt(project=project, source=source, tags=tags)
        number = 0
        while not prompt.split or prompt.split != "train":
            prompt.messages = [{"role": "user", "content": f"How about {name}? {number}"}]
            prompt.derive()
            number += 1
        prompt.save()
    shown = at.get(url(), asked).content.decode()
    assert {name for name in ("egg", "tea", "pie") if f"How about {name}" in shown} == found
    assert ("not one of the available choices" in shown) == ("nonsense" in asked.values())


def texts(prompts) -> set[str]:
    return {prompt.text for prompt in prompts}


@pytest.mark.parametrize("ticked, tagged", [(["two"], {"two"}), ([], {"one", "two"})])
def test_the_ticked_prompts_are_tagged_or_else_all_that_the_filter_finds(
    ticked, tagged, at, project, new_prompt
):
    made = {name: new_prompt(name) for name in ("one", "two", "three")}
    project.prompts.exclude(text="three").update(source="book")
    form = {"source": "book", "new_tag": "hard", "act": "tag"}
    chosen = [made[name].pk for name in ticked]
    for _ in range(2):  # twice is once
        assert at.post(url("mark/"), {**form, "chosen": chosen}).status_code == 302
    assert texts(project.prompts.tagged("hard")) == tagged
    assert all(prompt.tags == ["hard"] for prompt in project.prompts.tagged("hard"))


@pytest.mark.parametrize("tag", ["", " ", "x" * 51])
def test_a_tag_that_does_not_fit_tags_nothing(tag, at, project, new_prompt):
    new_prompt()
    page = at.post(url("mark/"), {"new_tag": tag, "act": "tag"}, follow=True)
    assert "1 to 50 characters" in page.content.decode()
    assert project.prompts.get().tags == []


def test_an_archived_prompt_is_asked_about_no_more_until_it_is_put_back(
    at, alice, project, rank_task
):
    kept, task = rank_task(), rank_task()
    form = {"chosen": [task.prompt.pk], "archived": ""}
    at.post(url("mark/"), {**form, "act": "archive"})
    assert list(project.tasks.open()) == [kept]
    assert task.prompt.text not in at.get(url()).content.decode()
    assert task.prompt.text in at.get(url(), {"archived": "on"}).content.decode()
    at.post(url("tasks/"), {"archived": "on", "kind": "rank"})
    assert list(project.tasks.open()) == [kept]
    at.post(url("mark/"), {**form, "archived": "on", "act": "restore"})
    assert project.prompts.active().count() == 2


@pytest.mark.parametrize(
    "nonsense",
    [{"split": "bogus"}, {"work": "bogus"}, {"chosen": "x"}, {"chosen": ["0", "9" * 30]}],
)
def test_a_selection_that_makes_no_sense_is_nothing_and_not_everything(
    nonsense, at, project, new_prompt
):
    new_prompt()
    at.post(url("mark/"), {**nonsense, "act": "archive"})
    at.post(url("tasks/"), {**nonsense, "kind": "write"})
    assert project.prompts.active().count() == 1 and not project.tasks.exists()


def test_an_answer_that_was_under_way_asks_nobody_about_an_archived_prompt(
    project, alice, bob, rank_task
):
    rank_task(overlap=2)
    work = next_assignment(alice, project)
    project.prompts.all().archive()
    placements = [Placement(completion_id=pk, place=1) for pk in work.shown_order]
    ranking = Ranking.record(assignment=work, placements=placements)
    assert next_assignment(bob, project) is None
    ranking.retract(draft={"comment": "wait"})
    assert next_assignment(bob, project) is None
    assert next_assignment(alice, project).draft == {"comment": "wait"}  # nothing is lost


@pytest.mark.parametrize("page", ["mark/", "tasks/"])
@pytest.mark.parametrize(
    ("asked", "back"),
    [
        ({}, ""),
        ({"tag": "chat", "split": "train", "words": ""}, "?split=train&tag=chat"),
        ({"only": "PROMPT", "chosen": "PROMPT"}, "PROMPT/"),
        ({"only": "x"}, ""),
    ],
)
def test_after_an_act_one_is_where_one_was(page, asked, back, at, new_prompt):
    number = str(new_prompt().pk)
    asked = {name: value.replace("PROMPT", number) for name, value in asked.items()}
    reply = at.post(url(page), {"act": "tag", "new_tag": "x", **asked})
    assert reply.url == url(back.replace("PROMPT", number))


def test_what_is_to_be_done_with_a_prompt_is_done_on_its_page(at, alice, rank_task):
    task = rank_task(k=3, overlap=2)
    prompt = task.prompt
    PromptFlag.put_up(prompt=prompt, labeler=alice, reason="unclear")
    this = {"chosen": prompt.pk, "only": prompt.pk}

    def shown() -> str:
        return " ".join(at.get(url(f"{prompt.pk}/")).content.decode().split())

    assert "rank, 0 of 2 answers" in shown() and "Resolve flags" in shown()
    at.post(url("mark/"), {**this, "act": "settle"})
    assert "Resolve flags" not in shown()
    at.post(url("tasks/"), {**this, "kind": "write"})
    assert "write, 0 of 1 answer." in shown()
    at.post(url("mark/"), {**this, "act": "archive"})
    assert 'value="restore"' in shown() and "Ask for rankings" not in shown()
    at.post(url("mark/"), {**this, "archived": "on", "act": "restore"})
    assert "Ask for rankings" in shown()


def test_nobody_marks_the_prompts_of_another_project(browse, mallory, new_prompt):
    prompt = new_prompt()
    browse(mallory).post(url("mark/", "elsewhere"), {"act": "archive", "chosen": [prompt.pk]})
    prompt.refresh_from_db()
    assert prompt.archived_at is None


def test_a_prompts_page_shows_what_came_of_it(at, alice, rank_task):
    task = rank_task(k=2)
    first, second = task.completions.all()
    Demonstration.objects.create(prompt=task.prompt, labeler=alice, text="**My** answer")
    ranking = Ranking.objects.create(prompt=task.prompt, labeler=alice)
    ranking.placements.create(completion=first, place=2, rating=3)
    ranking.placements.create(completion=second, place=1, flags=["opinion"])
    Feedback.objects.create(completion=first, user=alice, thumb_up=False)
    page = at.get(url(f"{task.prompt.pk}/")).content.decode()
    for shown in (
        "<strong>My</strong> answer",
        "Answer 1",
        "rated 3",
        "Expresses an opinion",
        "base",
        "alice",
    ):
        assert shown in page
    assert page.count("#thumbs-down") == 1


def test_the_words_of_a_model_are_no_html(at, policy, new_prompt):
    prompt = new_prompt("<script>alert(1)</script>")
    Completion.objects.create(prompt=prompt, policy=policy, text="<img src=x onerror=alert(1)>")
    for page in (url(), url(f"{prompt.pk}/")):
        shown = at.get(page).content.decode()
        assert "<script>alert" not in shown
        assert "<img" not in shown


def test_labelers_are_asked_for_demonstrations_of_what_is_shown(at, new_prompt):
    new_prompt("How do I boil an egg?")
    new_prompt("How do I bake a pie?")
    page = at.post(url("tasks/"), {"kind": "write", "words": "egg"}, follow=True)
    assert "One task is open" in page.content.decode()
    assert Task.objects.get().prompt.text == "How do I boil an egg?"
    again = at.post(url("tasks/"), {"kind": "write", "words": "egg"}, follow=True)
    assert "No task was opened" in again.content.decode()


def test_labelers_are_asked_to_rank_imported_completions(at):
    said = [{"model": name, "content": f"I am {name}"} for name in ("davinci", "curie")]
    text = json.dumps({"prompt": "Who are you?", "completions": said})
    at.post(at.post(url("import/"), {"text": text})["location"], {"import": ""})
    at.post(url("tasks/"), {"kind": "rank"})
    assert Task.objects.get().completions.count() == 2


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning")
def test_an_export_is_a_download(at, new_prompt):
    new_prompt("How do I boil an egg?")
    response = at.get(url("export/prompts/"))
    content = b"".join(response)
    assert json.loads(content)["prompt"][0]["content"] == "How do I boil an egg?"
    assert response["Content-Disposition"] == 'attachment; filename="cooking-prompts.jsonl"'
    assert int(response["Content-Length"]) == len(content)
    assert at.get(url("export/songs/")).status_code == 404


@pytest.mark.parametrize(
    ("instructions", "own", "expected"),
    [
        ("", [], []),
        ("Be brief.", [], ["Be brief."]),
        ("", ["Be kind."], ["Be kind."]),
        ("Be brief.", ["Be kind."], ["Be brief.\n\nBe kind."]),
    ],
)
def test_a_policy_sends_one_system_message_at_most(instructions, own, expected):
    asked = [{"role": "user", "content": "Hello"}]
    conversation = [*({"role": "system", "content": text} for text in own), *asked]
    sent = Policy(system_prompt=instructions).messages_for(conversation)
    assert [turn["content"] for turn in sent if turn["role"] == "system"] == expected
    assert sent[-1:] == asked


COMPOSED, DECOMPOSED = "Où est le café ?\nLà.", "Où est le cafe\u0301 ?\r\nLa\u0300."


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize(
    "twin", [DECOMPOSED, COMPOSED.replace("\n", "\r\n"), COMPOSED.replace("\n", "\r")]
)
def test_a_prompt_is_one_whatever_ends_its_lines_and_composes_its_accents(twin, project, bring):
    bring([{"prompt": twin}, {"prompt": COMPOSED}, {"prompt": COMPOSED + "!"}])
    assert project.prompts.count() == 2
    first = project.prompts.first()
    assert first.messages == asked(twin)  # as it came
    assert first.split == split_of(prompt_key(asked(COMPOSED)))


def test_the_key_of_plain_text_is_its_hash():
    assert prompt_key(asked("Why?\nSo.")) == content_hash(asked("Why?\nSo."))


def test_prompts_that_were_twins_before_stay_and_fall_into_one_split(project):
    migration = import_module("annotate.migrations.0004_know_prompts_by_their_spelling")
    texts = [DECOMPOSED, COMPOSED, COMPOSED.replace("\n", "\r\n"), "lone\r\n", "plain"]
    rows = [Prompt(project=project, messages=asked(text)).derive() for text in texts]
    for row in rows:
        row.content_hash = content_hash(row.messages)
        row.split = split_of(row.content_hash)
    Prompt.objects.bulk_create(rows)
    migration.know_by_spelling(apps, None)
    *twins, lone, plain = project.prompts.order_by("pk")
    key = prompt_key(twins[0].messages)
    assert [twin.content_hash == key for twin in twins].count(True) == 1
    assert {twin.split for twin in twins} == {split_of(key)}
    assert lone.content_hash == prompt_key(lone.messages)
    assert plain.content_hash == content_hash(plain.messages)
    for prompt in project.prompts.all():
        prompt.save()  # each can still be stored
    migration.know_by_spelling(apps, None)
    assert project.prompts.count() == 5


def test_whether_all_that_was_found_is_meant_is_asked_first(at, project, new_prompt):
    one, two, other = (new_prompt(text) for text in ("Boil one?", "Boil two?", "Fry?"))
    sent = {"words": "boil", "kind": "write", "batch": "eggs & ham"}
    page = at.post(url("tasks/"), sent).text
    assert "Ask for demonstrations on all 2" in page and not project.tasks.exists()
    hidden = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page)
    kept = {name: unescape(value) for name, value in hidden if name != "csrfmiddlewaretoken"}
    assert kept == sent
    at.post(url("tasks/"), {**kept, "sure": "yes"})
    made = {*project.tasks.values_list("prompt", "batch")}
    assert made == {(one.pk, "eggs & ham"), (two.pk, "eggs & ham")}
    at.post(url("tasks/"), {"kind": "write", "chosen": [one.pk, other.pk]})
    assert project.tasks.of_batch("eggs & ham").count() == 2 < project.tasks.count()
