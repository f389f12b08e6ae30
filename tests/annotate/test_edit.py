"""The kind “edit”: people correct a given completion, and a round learns from the text and the
pair."""

import io
from types import SimpleNamespace

import pytest
from django.core.exceptions import ValidationError

from annotate.exchange.exports import exporting
from annotate.exchange.importing import ImportFailed, import_labels
from annotate.labelling.queue import next_assignment
from annotate.labels.kinds.edit import Edit, open_edit_tasks
from annotate.labels.label import Conflict
from annotate.models import Completion, Demonstration, Project, Prompt, Review, Task
from annotate.views.home import to_do
from rlhf.data.counts import count
from rlhf.data.selection import EVERYTHING, Filters
from rlhf.data.snapshot import pseudonym
from rlhf.stages import TRAININGS

ORIGINAL = "Boil it for sixty minutes."
CORRECTED = "Boil it for six minutes."
KEY = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
def completion(new_prompt, policy):
    prompt = new_prompt()
    source = Completion.Source.SAMPLED
    return prompt.completions.create(policy=policy, text=ORIGINAL, source=source)


@pytest.fixture
def work(project, alice, completion):
    assert open_edit_tasks(project, project.prompts.all(), 1, "b") == 1
    return next_assignment(alice, project)


@pytest.fixture
def page(work):
    return f"/p/cooking/label/{work.pk}/"


def sent(text, key=KEY, **fields):
    return {"text": text, "idempotency_key": key, "active_seconds": 40, **fields}


# The page


def test_the_editor_begins_with_the_completion(browse, alice, page):
    response = browse(alice).get(page)
    assert response.context["form"]["text"].value() == ORIGINAL
    assert "Correct this answer" in response.text
    assert 'id="changes"' not in response.text


def test_what_is_changed_is_shown_word_by_word_and_nothing_is_stored(browse, alice, page):
    response = browse(alice).post(page, sent(CORRECTED, preview="1"))
    assert response.status_code == 200
    assert "<del>sixty</del><ins>six</ins>" in response.text
    assert not Edit.objects.exists()


def test_an_edit_is_a_demonstration_with_its_source_and_the_difference(browse, alice, work, page):
    assert browse(alice).post(page, sent(CORRECTED)).status_code == 302
    edit = Edit.objects.get()
    assert edit.original.text == ORIGINAL
    assert (edit.text, edit.active_seconds) == (CORRECTED, 40)
    kept = [piece for what, piece in edit.changes if what != "new"]
    assert kept == ["Boil it for ", "sixty", " minutes."]
    assert Demonstration.objects.get().specific == edit
    work.refresh_from_db()
    assert isinstance(work.label, Edit)
    assert work.task.closed_at


@pytest.mark.parametrize("text", [ORIGINAL, f"  {ORIGINAL}\n"])
def test_an_unchanged_text_is_no_edit(browse, alice, page, text):
    response = browse(alice).post(page, sent(text))
    assert response.status_code == 422
    assert "t changed anything yet" in response.text
    assert not Edit.objects.exists()


def test_an_edit_is_sent_once_revised_and_undone_like_any_label(browse, alice, work, page):
    client = browse(alice)
    for _ in range(2):
        assert client.post(page, sent(CORRECTED)).status_code == 302
    assert Edit.objects.count() == 1
    assert client.get(page).context["form"]["text"].value() == CORRECTED
    other = "22222222-2222-4222-8222-222222222222"
    client.post(page, sent("Six minutes.", other, revision_no=1))
    last = Edit.objects.current().get()
    assert (last.text, last.revision_no) == ("Six minutes.", 2)
    assert last.changes != Edit.objects.get(revision_no=1).changes
    with pytest.raises(Conflict):
        Edit.objects.get(revision_no=1).retract(draft={})
    assert client.post(f"{page}undo/").status_code == 302
    assert not Edit.objects.current().exists()
    assert client.get(page).context["form"]["text"].value() == "Six minutes."


def test_a_repeated_key_with_another_text_is_a_conflict(browse, alice, page):
    browse(alice).post(page, sent(CORRECTED))
    assert browse(alice).post(page, sent("Seven minutes.")).status_code == 409


def test_my_work_lists_edits_apart(browse, alice, page):
    browse(alice).post(page, sent(CORRECTED))
    assert CORRECTED in browse(alice).get("/p/cooking/my-work/?kind=edit").text
    assert CORRECTED not in browse(alice).get("/p/cooking/my-work/?kind=write").text


# Who is asked for what


def test_edits_come_before_writing_and_are_counted_at_home(project, alice, completion, write_task):
    write_task()
    open_edit_tasks(project, project.prompts.all(), 1, "b")
    steps = [(step.title, step.count) for step in to_do(alice.memberships.get())]
    assert steps == [("Correct answers", "1"), ("Write answers", "1")]
    assert next_assignment(alice, project).task.kind == Task.Kind.EDIT


def test_operators_ask_for_edits_of_what_is_shown_or_of_completions_they_tick(
    browse, project, olga, completion, policy
):
    prompt = completion.prompt
    newer = prompt.completions.create(policy=policy, text="Not at all.", source="sampled")
    client, address = browse(olga), "/p/cooking/prompts/tasks/"
    assert "Ask for edits" in client.get("/p/cooking/prompts/").text
    client.post(address, {"kind": "edit"})
    assert list(Task.objects.get().completions.all()) == [newer]
    client.post(address, {"kind": "edit", "completion": [completion.pk]})
    asked = [list(task.completions.all()) for task in Task.objects.order_by("pk")]
    assert asked == [[newer], [completion]]
    client.post(address, {"kind": "edit", "completion": [completion.pk]})
    assert Task.objects.count() == 2
    assert client.get(f"/p/cooking/prompts/{prompt.pk}/").text.count('name="completion"') == 2


def test_a_completion_of_another_project_is_not_asked_about(project, completion):
    elsewhere = Project.objects.create(name="Other", slug="other")
    assert open_edit_tasks(elsewhere, Prompt.objects.all(), 1, "b") == 0


# The review


@pytest.fixture
def review(project, alice, rita, work):
    """Of a new writer's first edit."""
    Project.objects.filter(pk=project.pk).update(new_writer_reviews=3)
    work.refresh_from_db()
    Edit.record(assignment=work, text=CORRECTED)
    return next_assignment(rita, project)


def decide(browse, rita, review, verdict, **more):
    sent = {"verdict": verdict, "seen": str(Edit.objects.get().pk), "score": 6, **more}
    return browse(rita).post(f"/p/cooking/review/{review.pk}/", sent)


def test_a_reviewer_sees_the_difference_and_accepts(browse, rita, review):
    shown = browse(rita).get(f"/p/cooking/review/{review.pk}/").text
    assert "<del>sixty</del><ins>six</ins>" in shown
    assert decide(browse, rita, review, "accept").status_code == 302
    assert Review.objects.get().label.pk == Edit.objects.get().pk
    assert "edit" in browse(rita).get("/p/cooking/review/?state=settled").text


def test_what_a_reviewer_writes_instead_is_an_edit_of_the_same_completion(browse, rita, review):
    more = {"text": "Boil it gently for six minutes.", "cause": "labeler_error"}
    assert decide(browse, rita, review, "own", **more).status_code == 302
    own = Edit.objects.get(labeler=rita)
    assert (own.original.text, own.text) == (ORIGINAL, more["text"])
    assert browse(rita).get(f"/p/cooking/review/{review.pk}/").status_code == 200


def test_an_edit_that_is_sent_back_begins_with_what_was_sent(browse, alice, rita, review, page):
    more = {"cause": "labeler_error", "comment": "Say for which size."}
    assert decide(browse, rita, review, "send_back", **more).status_code == 302
    response = browse(alice).get(page)
    assert response.context["form"]["text"].value() == CORRECTED
    browse(alice).post(page, sent("Boil a small one for six minutes."))
    assert Edit.objects.current().get().revision_no == 2


# Files


@pytest.mark.parametrize("format", exporting.FORMATS)
@pytest.mark.parametrize("original", [ORIGINAL, "", "=1+1", '[{"role": "x"}]'])
def test_edits_go_out_and_come_in_the_same(project, alice, olga, completion, format, original):
    Completion.objects.filter(pk=completion.pk).update(text=original, finish_reason="length")
    Edit.objects.create(
        prompt=completion.prompt,
        labeler=alice,
        original=Completion.objects.get(pk=completion.pk),
        text=CORRECTED,
        comment="It was wrong.",
    )

    def exported(of):
        file = io.BytesIO()
        exporting.write(file, exporting.lines(of, "edits"), format)
        return file.getvalue()

    elsewhere = Project.objects.create(name="Other", slug="other")
    data = exported(project)
    for known in (0, 1):
        done = import_labels(io.BytesIO(data), project=elsewhere, by=olga, format=format)
        assert (done.kind, done.new["edits"], done.known["edits"]) == ("edits", 1 - known, known)
    assert exported(elsewhere) == data
    assert list(exporting.lines(elsewhere, "demonstrations")) == []


def test_a_line_that_corrects_nothing_is_refused(project, olga):
    line = b'{"prompt": "Egg?", "original": "Six.", "completion": "Six."}\n'
    with pytest.raises(ImportFailed, match="nothing is corrected"):
        import_labels(io.BytesIO(line), project=project, by=olga)


# What a round learns


@pytest.fixture
def learnt(project, alice, completion):
    """An edit whose prompt is there to train on."""
    Prompt.objects.filter(pk=completion.prompt_id).update(split="train")
    prompt = Prompt.objects.get(pk=completion.prompt_id)
    edit = Edit.objects.create(prompt=prompt, labeler=alice, original=completion, text=CORRECTED)
    return SimpleNamespace(edit=edit, prompt=prompt)


def test_the_text_teaches_as_a_demonstration(project, learnt):
    frozen = TRAININGS["sft"].collect(project, EVERYTHING, train={})
    assert [row["completion"][0]["content"] for row in frozen.files["train"]] == [CORRECTED]


@pytest.mark.parametrize("kind", ["reward", "dpo"])
def test_the_pair_teaches_like_a_ranking_of_two(project, alice, policy, learnt, kind):
    frozen = TRAININGS[kind].collect(project, EVERYTHING, train={})
    assert frozen.files["train"] == [
        {
            "id": f"edit {learnt.edit.pk}",
            "prompt_id": learnt.prompt.pk,
            "prompt": learnt.prompt.messages,
            "completions": [ORIGINAL, CORRECTED],
            "ranks": [2, 1],
            "finish_reasons": ["", "stop"],
            "policies": [str(policy.pk), ""],
            "labeler": pseudonym(alice),
        }
    ]
    assert learnt.edit.pk in {each.pk for each in frozen.demonstrations}
    counts = count(project)
    assert (counts["demonstrations"], counts["rankings"], counts["comparisons"]) == (1, 1, 1)


def test_what_reviewers_exclude_and_whom_nobody_trains_on_teaches_no_pair(
    project, alice, rita, learnt
):
    held_out = Filters(held_out_labelers=(alice.pk,))
    assert not TRAININGS["reward"].collect(project, held_out, train={}).files["train"]
    Review.objects.create(demonstration=learnt.edit, reviewer=rita, verdict="excluded")
    assert not TRAININGS["reward"].collect(project, EVERYTHING, train={}).files["train"]
    assert not TRAININGS["sft"].collect(project, EVERYTHING, train={}).files["train"]


def test_an_edit_needs_its_change_said_to_the_model_too(work):
    with pytest.raises(ValidationError, match="t changed anything yet"):
        Edit.record(assignment=work, text=ORIGINAL)
