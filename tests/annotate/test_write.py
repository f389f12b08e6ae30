"""Writing a demonstration: the page, drafts, one submit sent often, two tabs, undo."""

import re
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connections, transaction
from django.db.models.functions import Now
from django.forms import BaseForm, Textarea

from annotate.labelling.queue import next_assignment
from annotate.labels.label import Conflict
from annotate.models import Assignment, Demonstration, Project, Prompt


@pytest.fixture
def work(project, alice, write_task):
    write_task()
    return next_assignment(alice, project)


@pytest.fixture
def page(work):
    return f"/p/cooking/label/{work.pk}/"


def sent(text="Six minutes.", **fields):
    return {"text": text, "idempotency_key": str(uuid.uuid4()), **fields}


def long_ago(work, **ago):
    Assignment.objects.filter(pk=work.pk).update(ended_at=Now() - timedelta(**ago))


# The page


def test_the_label_page_leads_to_the_assignment(browse, alice, work, page):
    assert browse(alice).get("/p/cooking/label/").headers["Location"] == page


def test_the_page_shows_the_prompt_the_guideline_and_an_editor(browse, alice, work, page):
    html = browse(alice).get(page).content.decode()
    for part in (work.task.prompt.text, "<strong>helpful</strong>", "<textarea", "Skip…"):
        assert part in html


def test_a_submit_stores_everything_and_leads_to_the_next(browse, alice, work, page):
    reply = browse(alice).post(
        page, sent("Six *minutes*.", active_seconds=42, pasted_share=0.25, comment="Which eggs?")
    )
    assert reply.headers["Location"] == "/p/cooking/label/"
    label = Demonstration.objects.get()
    assert (label.text, label.comment) == ("Six *minutes*.", "Which eggs?")
    assert (label.active_seconds, label.pasted_share) == (42, 0.25)
    assert (label.labeler, label.prompt, label.guideline_version) == (alice, work.task.prompt, 1)
    work.refresh_from_db()
    assert work.is_submitted


def forms_below(kind):
    for each in kind.__subclasses__():
        yield each
        yield from forms_below(each)


def test_what_becomes_data_has_no_line_ends_of_a_browser(browse, alice, work, page):
    browse(alice).post(page, sent(text="One.\r\nTwo."))
    assert Demonstration.objects.get().text == "One.\nTwo."
    of_several_lines = {
        (form.__name__, name): field
        for form in forms_below(BaseForm)
        if form.__module__.startswith("annotate.")
        for name, field in form.base_fields.items()
        if isinstance(field.widget, Textarea)
    }
    # These are read line by line.
    line_by_line = {("FileForm", "text"), ("SettingsForm", "use_cases"), ("InviteForm", "names")}
    assert {("WriteForm", "text"), ("ColumnForm", "prompt_format")} < of_several_lines.keys()
    for name in of_several_lines.keys() - line_by_line:
        assert of_several_lines[name].to_python("a\r\nb") == "a\nb", name


def test_the_spelling_is_checked_in_the_language_of_the_prompt(browse, alice, project, write_task):
    task = write_task()
    asked = "Wie koche ich ein Ei und was ist das Beste?"
    Prompt.objects.filter(pk=task.prompt_id).update(text=asked)
    work = next_assignment(alice, project)
    html = browse(alice).get(f"/p/cooking/label/{work.pk}/").content.decode()
    assert re.search(r'<textarea name="text"[^>]* lang="de" spellcheck="true"', html)


def test_writers_are_offered_the_snippets_of_the_project(browse, olga, alice, project, work, page):
    settings = browse(olga)
    form = settings.get("/p/cooking/settings/").context["form"]
    sent = {
        name: value for name, value in form.initial.items() if not (value is None or value is False)
    }
    reply = settings.post("/p/cooking/settings/", sent | {"snippets": "No name"})
    assert "Begin with a line" in reply.content.decode()
    text = "## Refusal\r\nI cannot help\r\n\r\nwith **this**.\r\n## Sources\r\n- <none>\r\n"
    settings.post("/p/cooking/settings/", sent | {"snippets": text})
    project.refresh_from_db()
    assert project.named_snippets == [
        ("Refusal", "I cannot help\n\nwith **this**."),
        ("Sources", "- <none>"),
    ]
    html = browse(alice).get(page).content.decode()
    assert "with **this**.</pre>" in html and "- &lt;none&gt;" in html


def test_with_nothing_left_the_page_says_so_and_offers_undo(browse, alice, work, page):
    reply = browse(alice).post(page, sent(), follow=True)
    assert "<h1>All done</h1>" in reply.content.decode()
    assert f"{page}undo/" in reply.content.decode()


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"text": ""}, "Write an answer first"),
        ({"text": "  \n "}, "Write an answer first"),
        ({"text": "x" * 50_001}, "at most 50000 characters"),
        ({"text": "nul \x00"}, "Null characters are not allowed"),
        ({"idempotency_key": "7"}, "valid UUID"),
        ({"active_seconds": "soon"}, "whole number"),
        ({"pasted_share": "nan"}, "Enter a number"),
    ],
)
def test_a_bad_submit_says_what_to_do_and_keeps_the_work_open(
    browse, alice, work, page, fields, complaint
):
    reply = browse(alice).post(page, sent() | fields)
    assert reply.status_code == 422
    assert complaint in reply.content.decode()
    assert not Demonstration.objects.exists()
    work.refresh_from_db()
    assert not work.is_submitted


def test_what_the_browser_measures_is_kept_in_bounds(browse, alice, work, page):
    browse(alice).post(page, sent(active_seconds=-5, pasted_share=7))
    label = Demonstration.objects.get()
    assert (label.active_seconds, label.pasted_share) == (0, 1.0)


def test_markdown_is_previewed_and_made_safe(browse, alice, project):
    reply = browse(alice).post(
        "/p/cooking/preview/", {"text": "**bold** <script>"}, headers={"HX-Request": "true"}
    )
    assert "<strong>bold</strong> &lt;script&gt;</p>" in reply.content.decode()


# Drafts


def test_a_draft_comes_back_with_the_page(browse, alice, work, page):
    client = browse(alice)
    reply = client.post(f"{page}draft/", sent("Half a"), headers={"HX-Request": "true"})
    assert "Saved" in reply.content.decode()
    html = client.get(page).content.decode()
    assert "Half a</textarea>" in html
    assert "Draft restored from" in html


def test_of_two_tabs_neither_overwrites_the_draft_of_the_other_unasked(browse, alice, work, page):
    client = browse(alice)

    def version(html):
        return re.search(r'name="drafted" value="([^"]*)"', html)[1]

    def save(text, seen):
        form = sent(text, drafted=seen)
        return client.post(f"{page}draft/", form, headers={"HX-Request": "true"}).text

    first = second = version(client.get(page).text)
    first = version(save("One", first))
    refused = save("Two", second)
    assert "another tab" in refused and version(refused) == second
    first = version(save("One more", first))
    work.refresh_from_db()
    assert work.draft == {"text": "One more"}
    assert version(client.get(page).text) == first


@pytest.mark.parametrize("text", ["", "x" * 60_000, "nul \x00 inside"])
def test_a_draft_may_be_anything(browse, alice, work, page, text):
    assert browse(alice).post(f"{page}draft/", sent(text)).status_code == 302
    work.refresh_from_db()
    assert work.draft.get("text", "") == text.replace("\x00", "")


def test_a_draft_without_a_place_says_that_the_time_ran_out(
    browse, alice, bob, project, work, page
):
    Assignment.objects.update(leased_until=Now())
    next_assignment(bob, project)
    reply = browse(alice).post(f"{page}draft/", sent("More"), headers={"HX-Request": "true"})
    assert "Your time ran out" in reply.content.decode()


def test_a_draft_after_the_submit_changes_nothing(browse, alice, work, page):
    client = browse(alice)
    client.post(page, sent("The answer"))
    client.post(f"{page}draft/", sent("A ghost"))
    work.refresh_from_db()
    assert (work.is_submitted, work.draft) == (True, {})


# Skipping


def test_a_skip_needs_a_reason_of_the_list(browse, alice, work, page):
    client = browse(alice)
    assert "Choose why" in client.post(f"{page}skip/").content.decode()
    assert client.post(f"{page}skip/", {"skip-reason": "bored"}).status_code == 422
    client.post(f"{page}skip/", {"skip-reason": "knowledge", "skip-note": "Never cooked."})
    work.refresh_from_db()
    assert (work.state, work.skip_reason) == ("skipped", "knowledge")
    assert work.skip_note == "Never cooked."
    assert "You skipped this task" in client.get(page).content.decode()


def test_what_was_answered_cannot_be_skipped(browse, alice, work, page):
    client = browse(alice)
    client.post(page, sent())
    reply = client.post(f"{page}skip/", {"skip-reason": "other"}, follow=True)
    assert "already answered" in reply.content.decode()
    work.refresh_from_db()
    assert work.is_submitted


def test_an_answer_from_another_tab_after_a_skip_is_kept(work):
    work.skip(reason="other")
    assert Demonstration.record(assignment=work, text="After all").late is False


# One submit, however often it is sent


def test_the_same_submit_again_returns_the_same_label(browse, alice, work, page):
    client, form = browse(alice), sent()
    first, second = client.post(page, form), client.post(page, form | {"active_seconds": 99})
    assert first.headers["Location"] == second.headers["Location"]
    assert Demonstration.objects.count() == 1


@pytest.mark.parametrize("change", [{"text": "Eight."}, {"comment": "Hm."}])
def test_the_same_key_with_another_body_is_a_conflict(browse, alice, work, page, change):
    client, form = browse(alice), sent()
    client.post(page, form)
    reply = client.post(page, form | change)
    assert reply.status_code == 409
    assert Demonstration.objects.count() == 1


def test_a_key_belongs_to_one_task(project, alice, work, write_task):
    key = uuid.uuid4()
    Demonstration.record(assignment=work, text="One", idempotency_key=key)
    write_task()
    other = next_assignment(alice, project)
    with pytest.raises(Conflict):
        Demonstration.record(assignment=other, text="One", idempotency_key=key)
    other.refresh_from_db()
    assert not other.is_submitted


@pytest.mark.django_db(transaction=True)
def test_twenty_retries_at_once_have_one_effect(alice, work):
    for number in range(5):
        key, start = uuid.uuid4(), threading.Barrier(20)

        def submit(key=key, start=start, number=number):
            try:
                start.wait(timeout=60)
                again = Assignment.objects.get(pk=work.pk)
                return Demonstration.record(
                    assignment=again, text=f"Answer {number}", idempotency_key=key
                ).pk
            finally:
                connections.close_all()

        with ThreadPoolExecutor(20) as pool:
            labels = {future.result() for future in [pool.submit(submit) for _ in range(20)]}
        assert len(labels) == 1
        Demonstration.objects.get(pk=labels.pop()).retract(draft={})
    assert Demonstration.objects.filter(retracted=False).count() == 5


def test_the_database_itself_allows_an_assignment_one_first_label(alice, work):
    Demonstration.record(assignment=work, text="One")
    with pytest.raises(IntegrityError), transaction.atomic():
        Demonstration.objects.create(
            assignment=work, prompt=work.task.prompt, labeler=alice, text="Two"
        )


# Two tabs


def test_a_second_answer_to_one_task_shows_both_versions(browse, alice, work, page):
    client = browse(alice)
    client.post(page, sent("From the first tab"))
    reply = client.post(page, sent("From the second tab"))
    html = reply.content.decode()
    assert reply.status_code == 409
    assert "From the first tab" in html and "From the second tab</textarea>" in html
    assert Demonstration.objects.get().text == "From the first tab"


def test_sending_again_after_a_conflict_revises_knowingly(browse, alice, work, page):
    client = browse(alice)
    client.post(page, sent("First"))
    form = client.post(page, sent("Second")).context["form"]
    again = {name: form[name].value() for name in ("text", "idempotency_key", "revision_no")}
    assert client.post(page, again).headers["Location"] == "/p/cooking/my-work/"
    label = Demonstration.objects.current().get()
    assert (label.text, label.revision_no, label.supersedes.text) == ("Second", 2, "First")


def test_the_slower_of_two_editors_gets_a_conflict(browse, alice, work, page):
    client = browse(alice)
    client.post(page, sent("First"))
    client.post(page, sent("Edited in tab one", revision_no=1))
    reply = client.post(page, sent("Edited in tab two", revision_no=1))
    html = reply.content.decode()
    assert reply.status_code == 409
    assert "Edited in tab one" in html and "Edited in tab two" in html
    assert Demonstration.objects.current().get().text == "Edited in tab one"


def test_an_edit_sent_twice_is_one_revision(browse, alice, work, page):
    client = browse(alice)
    client.post(page, sent("First"))
    form = sent("Second", revision_no=1)
    client.post(page, form)
    client.post(page, form)
    assert Demonstration.objects.count() == 2


# Undo and editing


def test_undo_opens_the_work_again_as_it_was_sent(browse, alice, work, page):
    client = browse(alice)
    client.post(page, sent("Too quick", comment="Oops"))
    assert client.post(f"{page}undo/").headers["Location"] == page
    html = client.get(page).content.decode()
    assert "Too quick</textarea>" in html and "Oops</textarea>" in html
    work.task.refresh_from_db()
    assert work.task.closed_at is None
    assert not Demonstration.objects.current().exists()
    assert next_assignment(alice, work.task.project) == work


def test_after_undo_the_answer_is_given_anew(browse, alice, work, page):
    client = browse(alice)
    client.post(page, sent("First"))
    client.post(f"{page}undo/")
    client.post(page, sent("Second"))
    assert list(Demonstration.objects.values_list("text", "revision_no", "retracted")) == [
        ("First", 1, False),
        ("First", 2, True),
        ("Second", 3, False),
    ]
    assert Demonstration.objects.current().get().text == "Second"


def test_an_edit_of_what_was_taken_back_loses_nothing(browse, alice, work, page):
    client = browse(alice)
    client.post(page, sent("First"))
    client.post(f"{page}undo/")
    form = client.post(page, sent("Edit of a ghost", revision_no=1)).context["form"]
    again = {name: form[name].value() for name in ("text", "idempotency_key", "revision_no")}
    client.post(page, again)
    assert Demonstration.objects.current().get().text == "Edit of a ghost"


@pytest.mark.parametrize(("seconds", "is_undone"), [(0, True), (25, True), (35, False)])
def test_undo_has_thirty_seconds(browse, alice, work, page, seconds, is_undone):
    client = browse(alice)
    client.post(page, sent())
    long_ago(work, seconds=seconds)
    reply = client.post(f"{page}undo/", follow=True)
    assert Demonstration.objects.current().exists() is not is_undone
    assert ("30 seconds for undo are over" in reply.content.decode()) is not is_undone


@pytest.mark.parametrize(
    ("window", "minutes", "is_open"),
    [
        *((120, 1, True), (120, 119, True), (120, 121, False)),
        *((0, 0, False), (1440, 1439, True), (10, 11, False)),
    ],
)
def test_an_answer_may_be_edited_for_as_long_as_the_project_has_it(
    window, minutes, is_open, browse, alice, work, page, project
):
    Project.objects.update(edit_minutes=window)
    client = browse(alice)
    client.post(page, sent("First"))
    is_named = "Edit<" in client.get("/p/cooking/my-work/").content.decode()
    assert is_named is (window > 0)
    long_ago(work, minutes=minutes)
    assert ("<textarea" in client.get(page).content.decode()) is is_open
    reply = client.post(page, sent("Second", revision_no=1))
    assert reply.status_code == (302 if is_open else 422)
    assert Demonstration.objects.current().get().text == ("Second" if is_open else "First")


def test_undo_needs_no_time_to_correct(browse, alice, work, page, project):
    Project.objects.update(edit_minutes=0)
    client = browse(alice)
    client.post(page, sent("First"))
    client.post(f"{page}undo/")
    assert not Demonstration.objects.current().exists()


def freeze(project, label):
    from rlhf.models import Run

    run = Run.objects.create(project=project, kind=Run.Kind.SFT)
    snapshot = project.snapshots.create(run=run, sha256="0" * 64, counts={})
    snapshot.demonstrations.add(label)


def test_what_a_snapshot_froze_is_read_only(browse, alice, project, work, page):
    client = browse(alice)
    client.post(page, sent("First"))
    freeze(project, Demonstration.objects.get())
    html = client.get(page).content.decode()
    assert "it was used in a round" in html and "<textarea" not in html
    assert client.post(page, sent("Second", revision_no=1)).status_code == 422
    client.post(f"{page}undo/")
    assert Demonstration.objects.current().get().text == "First"


def test_an_imported_label_has_no_assignment_to_revise(alice, work):
    label = Demonstration.objects.create(prompt=work.task.prompt, labeler=alice, text="Imported")
    with pytest.raises(ValidationError):
        label.revise(revision_no=1, text="Changed")
