"""A project keeps chats, exchanges, uploads and drafts as long as its settings say."""

import io
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone

from annotate import jobs, retention
from annotate.audit.chain import verify
from annotate.labelling.own_prompts import PromptDraft
from annotate.models import Assignment, AuditEntry, Conversation, Message, Project, Upload
from annotate.retention import apply_retention, apply_waiting, due
from tests.chats import ask

KINDS = {
    "chats of guests": "keep_chats_days",
    "exchanges through the API": "keep_api_days",
    "uploads": "keep_uploads_days",
    "drafts of answers": "keep_drafts_days",
    "drafts of prompts": "keep_drafts_days",
}


def ago(days: float):
    return timezone.now() - timedelta(days=days)


def chat(project, guest, *, days: float, last: float | None = None, via_api=False) -> Conversation:
    made = Conversation.objects.create(project=project, guest=guest, via_api=via_api)
    made.messages.create(role=Message.Role.USER, text="Why?")
    made.messages.create(role=Message.Role.ASSISTANT, text="So.")
    made.messages.update(created_at=ago(days))
    made.messages.filter(role=Message.Role.ASSISTANT).update(created_at=ago(last or days))
    Conversation.objects.filter(pk=made.pk).update(created_at=ago(days))
    return made


def upload(project, by, *, days: float) -> Upload:
    kept = Upload.keep(project=project, by=by, file=io.BytesIO(b"{}"), name="x", format="jsonl")
    Upload.objects.filter(pk=kept.pk).update(created_at=ago(days))
    return kept


def draft(labeler, task, *, days: float, **fields) -> Assignment:
    fields = {"leased_until": ago(days), "drafted_at": ago(days)} | fields
    return Assignment.objects.create(task=task, labeler=labeler, draft={"text": "Half"}, **fields)


def prompt_draft(labeler, *, days: float) -> PromptDraft:
    membership = labeler.memberships.get()
    kept = PromptDraft.keep(membership=membership, kind="plain", values={"text": "Half"})
    PromptDraft.objects.filter(pk=kept.pk).update(saved_at=ago(days))
    return kept


@pytest.fixture
def everything(project, gus, olga, alice, bob, write_task) -> None:
    """Of each kind one that is ten days old and one that is thirty."""
    for days in (30, 10):
        chat(project, gus, days=days)
        chat(project, gus, days=days, via_api=True)
    for labeler, days in ((alice, 30), (bob, 10)):
        draft(labeler, write_task(), days=days)
        prompt_draft(labeler, days=days)
    recent = upload(project, olga, days=0)
    upload(project, olga, days=30)
    Upload.objects.filter(pk=recent.pk).update(created_at=ago(10))


def keep(project: Project, **days: int) -> Project:
    Project.objects.filter(pk=project.pk).update(**days)
    return Project.objects.get(pk=project.pk)


def test_a_project_keeps_everything_for_ever_unless_it_says_otherwise(project, everything):
    assert due(project) == {}
    assert apply_waiting() == 0
    assert apply_retention(project) == {}
    assert not AuditEntry.objects.filter(action="retention").exists()


@pytest.mark.parametrize("setting", sorted(set(KINDS.values())))
def test_what_is_past_its_period_goes_and_nothing_else(project, everything, setting):
    for name in KINDS.values():
        project = keep(project, **{name: 40})
    assert due(project) == dict.fromkeys(KINDS, 0)
    project = keep(project, **{setting: 20})
    gone = {kind: 1 for kind, name in KINDS.items() if name == setting}
    assert due(project) == dict.fromkeys(KINDS, 0) | gone
    assert apply_retention(project) == gone
    project = keep(project, **dict.fromkeys(KINDS.values(), 5))
    assert due(project) == {kind: 1 if kind in gone else 2 for kind in KINDS}
    assert apply_retention(project) == due(keep(project)) | {
        kind: 1 if kind in gone else 2 for kind in KINDS
    }


def test_a_chat_is_as_old_as_what_was_said_last(project, gus):
    going_on = chat(project, gus, days=30, last=1)
    project = keep(project, keep_chats_days=20)
    assert apply_retention(project) == {}
    assert Conversation.objects.get() == going_on


def test_a_chat_goes_with_what_became_of_it(live, project, gus, browse):
    answer = ask(browse(gus))
    answer.become_data()
    assert project.prompts.count() == 1
    Message.objects.update(created_at=ago(30))
    Conversation.objects.update(created_at=ago(30))
    apply_retention(keep(project, keep_chats_days=20))
    assert not Conversation.objects.exists()
    assert not project.prompts.exists(), "as when the guest deletes the chat"


def test_work_under_way_and_answers_stay(project, alice, bob, write_task):
    open_task = draft(alice, write_task(), days=30, leased_until=timezone.now() + timedelta(1))
    answered = draft(bob, write_task(), days=30, state=Assignment.State.SUBMITTED)
    apply_retention(keep(project, keep_drafts_days=20))
    for each in (open_task, answered):
        each.refresh_from_db()
        assert each.draft == {"text": "Half"}


def test_a_draft_that_is_gone_is_no_draft_to_go_on_with(project, alice, write_task):
    task = write_task()
    left = draft(alice, task, days=30)
    apply_retention(keep(project, keep_drafts_days=20))
    left.refresh_from_db()
    assert (left.draft, left.drafted_at) == ({}, None)
    assert not Assignment.objects.by(alice).expired().with_draft().exists()


def test_another_project_keeps_its_own(project, gus, mallory):
    elsewhere = mallory.memberships.get().project
    chat(elsewhere, mallory, days=30)
    chat(project, gus, days=30)
    apply_retention(keep(project, keep_chats_days=20))
    assert [each.project for each in Conversation.objects.all()] == [elsewhere]


def test_a_worker_deletes_in_batches_once_a_day_and_the_log_says_how_much(
    project, gus, monkeypatch
):
    monkeypatch.setattr(retention, "BATCH", 2)
    for _ in range(5):
        chat(project, gus, days=30)
    project = keep(project, keep_chats_days=20)
    assert [jobs.look() for _ in range(4)] == [2, 2, 1, 0]
    entries = AuditEntry.objects.filter(action="retention").order_by("pk")
    assert [entry.details["deleted"] for entry in entries] == [
        {"chats of guests": 2},
        {"chats of guests": 2},
        {"chats of guests": 1},
    ]
    assert {(entry.project_id, entry.actor_id) for entry in entries} == {(project.pk, None)}
    verify()
    chat(project, gus, days=30)
    assert jobs.look() == 0, "it was done today"
    Project.objects.update(tidied_at=ago(1.1))
    assert jobs.look() == 1


def test_what_cannot_be_deleted_waits_for_the_next_day_and_stops_nobody(
    project, gus, monkeypatch, caplog
):
    chat(project, gus, days=30)
    project = keep(project, keep_chats_days=20)
    with monkeypatch.context() as broken:
        broken.setattr(Conversation, "erase", lambda self: 1 / 0)
        assert jobs.look() == 0
    assert "could not be deleted" in caplog.text
    assert Conversation.objects.count() == 1
    assert jobs.look() == 0
    Project.objects.update(tidied_at=ago(1.1))
    assert jobs.look() == 1


def test_the_command_counts_before_it_deletes(project, everything, capsys):
    keep(project, keep_chats_days=20, keep_uploads_days=20)
    call_command("apply_retention", "--dry-run", "--project", "cooking")
    assert capsys.readouterr().out == "cooking: would be deleted: chats of guests 1, uploads 1\n"
    assert Conversation.objects.count() == 4
    call_command("apply_retention")
    assert capsys.readouterr().out == "cooking: deleted: chats of guests 1, uploads 1\n"
    call_command("apply_retention")
    assert capsys.readouterr().out == "cooking: deleted: nothing\n"


def test_the_settings_page_says_what_would_be_deleted_now(project, everything, olga, browse):
    def said() -> str:
        return " ".join(browse(olga).get("/p/cooking/settings/").content.decode().split())

    assert "Past the saved periods now" not in said()
    keep(project, keep_chats_days=20, keep_drafts_days=5)
    assert (
        "Due to be deleted: chats of guests 1, drafts of answers 2, drafts of prompts 2." in said()
    )
