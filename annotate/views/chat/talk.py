"""The production chat: the page, the stream of an answer, and the thumbs."""

from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync
from django import forms
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import HttpResponseClientRedirect, reswap, retarget

from annotate.access import (
    Request,
    Role,
    answer_for,
    conversation_for,
    project_for,
    question_for,
)
from annotate.chat import streaming as writing
from annotate.chat.conversations import Conversation, NoLivePolicy, StillAnswering
from annotate.chat.feedback import Feedback
from annotate.chat.history import by_date
from annotate.chat.messages import Message
from annotate.chat.preferences import Preference
from annotate.labels.forms import Text
from annotate.people.models import Project

SHOWN_CHATS = 50
NOBODY_ANSWERS = "No model is live in this project, so there is nothing to answer you."
ONE_AT_A_TIME = "The last answer is still being written. Wait until it is finished, or stop it."


class MessageForm(forms.Form):
    text = Text(
        rows=2,
        label="Your message",
        max_length=8000,
        error_messages={"required": "Write something first."},
    )


class FollowUpForm(MessageForm):
    # Another tab may show another branch by now: the page says which question was its last.
    follows = forms.IntegerField(required=False, widget=forms.HiddenInput)


class NewChatForm(MessageForm):
    improves_model = forms.BooleanField(
        label="Use this chat to improve the model", required=False, initial=True
    )


class TitleForm(forms.Form):
    title = forms.CharField(
        label="Name", max_length=100, error_messages={"required": "Write a name first."}
    )


class ThumbForm(forms.Form):
    thumb = forms.ChoiceField(choices=[("up", "up"), ("down", "down"), ("none", "none")])


class PreferenceForm(forms.Form):
    verdict = forms.ChoiceField(choices=[*Preference.Verdict.choices, ("none", "none")])


class ExplanationForm(forms.Form):
    reasons = forms.MultipleChoiceField(choices=Feedback.Reason, required=False)
    note = Text(rows=2, label="Comment", required=False, max_length=2000)
    wanted_answer = Text(rows=4, label="Answer", required=False, max_length=8000)


@require_GET
def chat(request: Request, slug: str) -> HttpResponse:
    """The newest chat, or a new one."""
    project = project_for(request, slug, Role.GUEST)
    newest = Conversation.objects.of_guest(request.user, project).first()
    if newest is None:
        return _page(request, project, NewChatForm())
    return redirect("chat_conversation", slug=slug, conversation_id=newest.pk)


@require_http_methods(["GET", "POST"])
def chat_new(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.GUEST)
    form = NewChatForm(request.POST or None)
    if request.method != "POST" or not form.is_valid():
        return _page(request, project, form)
    try:
        answer = Conversation.start(project=project, guest=request.user, **form.cleaned_data)
    except NoLivePolicy:
        form.add_error("text", NOBODY_ANSWERS)
        return _page(request, project, form)
    address = reverse("chat_conversation", args=[slug, answer.conversation_id])
    if request.htmx:
        return HttpResponseClientRedirect(address)
    _write_whole(answer)
    return redirect(address)


@require_GET
def chat_conversation(request: Request, slug: str, conversation_id: int) -> HttpResponse:
    conversation = conversation_for(request, slug, conversation_id)
    return _page(request, conversation.project, MessageForm(), conversation)


@require_POST
def chat_send(request: Request, slug: str, conversation_id: int) -> HttpResponse:
    conversation = conversation_for(request, slug, conversation_id)
    form = FollowUpForm(request.POST)
    if not form.is_valid():
        return _page(request, conversation.project, form, conversation)
    try:
        answer = conversation.ask(**form.cleaned_data)
    except (NoLivePolicy, StillAnswering) as error:
        form.add_error("text", _why_not(error))
        return _page(request, conversation.project, form, conversation)
    return _answered(request, slug, answer)


@require_POST
def chat_edit(request: Request, slug: str, question_id: int) -> HttpResponse:
    """Another version of a question, sent; the earlier one and what followed it stay."""
    question = question_for(request, slug, question_id)
    form = MessageForm(request.POST)
    if not form.is_valid():
        return _edit_refused(request, slug, question, form)
    try:
        answer = question.conversation.ask(text=form.cleaned_data["text"], instead_of=question)
    except (NoLivePolicy, StillAnswering) as error:
        form.add_error("text", _why_not(error))
        return _edit_refused(request, slug, question, form)
    if not request.htmx:
        _write_whole(answer)
    return _turns(request, slug, question.conversation)


@require_POST
def chat_version(request: Request, slug: str, question_id: int) -> HttpResponse:
    """Goes to the branch of this version of a question."""
    question = question_for(request, slug, question_id)
    question.show()
    return _turns(request, slug, question.conversation)


@require_POST
def chat_regenerate(request: Request, slug: str, message_id: int) -> HttpResponse:
    before = answer_for(request, slug, message_id)
    try:
        answer = before.conversation.ask_again(instead_of=before)
    except (NoLivePolicy, StillAnswering) as error:
        return _turn(request, slug, before, trouble=_why_not(error))
    return _answered(request, slug, answer)


@require_GET
def chat_turn(request: Request, slug: str, message_id: int) -> HttpResponse:
    return _turn(request, slug, answer_for(request, slug, message_id))


@require_POST
def chat_show(request: Request, slug: str, message_id: int) -> HttpResponse:
    draft = answer_for(request, slug, message_id)
    draft.show()
    return _turn(request, slug, draft)


@require_POST
def chat_stop(request: Request, slug: str, message_id: int) -> HttpResponse:
    answer = answer_for(request, slug, message_id)
    answer.stop()
    return _turn(request, slug, answer)


@require_GET
async def chat_stream(request: Request, slug: str, message_id: int) -> HttpResponseBase:
    answer = await writing.in_database(lambda: answer_for(request, slug, message_id))
    return StreamingHttpResponse(
        writing.server_sent_events(answer),
        content_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@require_POST
def chat_thumb(request: Request, slug: str, message_id: int) -> HttpResponse:
    answer = answer_for(request, slug, message_id)
    form = ThumbForm(request.POST)
    if not form.is_valid():
        return HttpResponse("A thumb is up, down or none.", status=400)
    if form.cleaned_data["thumb"] == "none":
        Feedback.take_back(message=answer, user=request.user)
        return _thumbs(request, slug, answer)
    Feedback.give(message=answer, user=request.user, thumb_up=form.cleaned_data["thumb"] == "up")
    return _thumbs(request, slug, answer, is_open=True)


@require_POST
def chat_prefer(request: Request, slug: str, message_id: int) -> HttpResponse:
    """Whether a draft is better than the one it is compared with."""
    draft = answer_for(request, slug, message_id)
    form = PreferenceForm(request.POST)
    if not form.is_valid() or draft.compared_with is None:
        return HttpResponse("A draft is better, same, worse, or none of these.", status=400)
    verdict = form.cleaned_data["verdict"]
    if verdict == "none":
        Preference.take_back(draft=draft, user=request.user)
    else:
        Preference.give(draft=draft, user=request.user, verdict=verdict)
    return _turn(request, slug, draft)


@require_POST
def chat_feedback(request: Request, slug: str, message_id: int) -> HttpResponse:
    """Why: reasons, a comment, the answer one wanted. Nothing of it is needed."""
    answer = answer_for(request, slug, message_id)
    thumb = answer.feedback.current().of_user(request.user).first()
    if thumb is None:
        return _thumbs(request, slug, answer)
    form = ExplanationForm(request.POST)
    if not form.is_valid():
        return _thumbs(request, slug, answer, form=form, is_open=True)
    thumb.explain(**form.cleaned_data)
    return _thumbs(request, slug, answer, is_thanked=True)


@require_POST
def chat_reasons(request: Request, slug: str, message_id: int) -> HttpResponse:
    """The reasons alone, saved as they are tapped; words that are still being written stay out."""
    answer = answer_for(request, slug, message_id)
    thumb = answer.feedback.current().of_user(request.user).first()
    form = ExplanationForm(request.POST)
    if thumb is None or not form.is_valid():
        return HttpResponse("Give a thumb first, and reasons of the list.", status=400)
    thumb.explain(
        reasons=form.cleaned_data["reasons"], note=thumb.note, wanted_answer=thumb.wanted_answer
    )
    return HttpResponse("Saved")


@require_POST
def chat_settings(request: Request, slug: str, conversation_id: int) -> HttpResponse:
    conversation = conversation_for(request, slug, conversation_id)
    conversation.allow_improving(allowed="improves_model" in request.POST)
    if request.htmx:
        return HttpResponse(status=204)
    return redirect("chat_conversation", slug=slug, conversation_id=conversation_id)


@require_POST
def chat_delete(request: Request, slug: str, conversation_id: int) -> HttpResponse:
    conversation_for(request, slug, conversation_id).erase()
    return redirect("chat", slug=slug)


@require_POST
def chat_rename(request: Request, slug: str, conversation_id: int) -> HttpResponse:
    conversation = conversation_for(request, slug, conversation_id)
    form = TitleForm(request.POST)
    if not form.is_valid():
        return _page(request, conversation.project, MessageForm(), conversation, renaming=form)
    conversation.rename(form.cleaned_data["title"])
    return redirect("chat_conversation", slug=slug, conversation_id=conversation_id)


def _page(
    request: Request,
    project: Project,
    form: forms.Form,
    conversation: Conversation | None = None,
    *,
    renaming: TitleForm | None = None,
) -> HttpResponse:
    form.fields["text"].widget.attrs["placeholder"] = f"Message {project}…"
    context: dict[str, Any] = {
        "project": project,
        "conversation": conversation,
        "form": form,
        "action": (
            reverse("chat_send", args=[project.slug, conversation.pk])
            if conversation
            else reverse("chat_new", args=[project.slug])
        ),
    }
    status = 422 if form.errors or (renaming and renaming.errors) else 200
    if request.htmx:
        refused = render(request, "annotate/_composer.html", context, status=status)
        return reswap(retarget(refused, "#composer"), "outerHTML")
    context |= {
        "chats": by_date(Conversation.objects.of_guest(request.user, project)[:SHOWN_CHATS]),
        "renaming": renaming or TitleForm({"title": str(conversation or "")}),
        "turns": conversation.turns() if conversation else [],
        "is_live": project.policies.live().exists(),
    }
    return render(request, "annotate/chat.html", context, status=status)


def _answered(request: Request, slug: str, answer: Message) -> HttpResponse:
    """With JavaScript the page opens the answer's stream; without, it comes whole."""
    if not request.htmx:
        _write_whole(answer)
    return _turn(request, slug, answer)


def _write_whole(answer: Message) -> None:
    """The answer, and a second draft that was asked for beside it."""
    for draft in (answer, *Message.objects.beside(answer)):
        async_to_sync(writing.write_whole)(draft)


def _turn(request: Request, slug: str, answer: Message, *, trouble: str = "") -> HttpResponse:
    conversation = answer.conversation
    if not request.htmx:
        return redirect("chat_conversation", slug=slug, conversation_id=conversation.pk)
    context = {
        "project": conversation.project,
        "turn": conversation.turn_of(answer),
        "trouble": trouble,
    }
    return render(request, "annotate/_turn.html", context, status=409 if trouble else 200)


def _turns(request: Request, slug: str, conversation: Conversation) -> HttpResponse:
    """All of them, where another branch takes the place of the one shown."""
    if not request.htmx:
        return redirect("chat_conversation", slug=slug, conversation_id=conversation.pk)
    context = {"project": conversation.project, "turns": conversation.turns()}
    return render(request, "annotate/_turns.html", context)


def _edit_refused(
    request: Request, slug: str, question: Message, form: MessageForm
) -> HttpResponse:
    """The form with what was typed, in place with JavaScript and on a page of its own without."""
    context = {"project": question.conversation.project, "question": question, "form": form}
    if not request.htmx:
        return render(request, "annotate/chat_edit.html", context, status=422)
    refused = render(request, "annotate/_question_edit.html", context, status=422)
    return reswap(retarget(refused, f"#edit-{question.pk}"), "outerHTML")


def _thumbs(
    request: Request,
    slug: str,
    answer: Message,
    *,
    form: ExplanationForm | None = None,
    is_open: bool = False,
    is_thanked: bool = False,
) -> HttpResponse:
    if not request.htmx:
        return redirect("chat_conversation", slug=slug, conversation_id=answer.conversation_id)
    context = {
        "project": answer.conversation.project,
        "answer": answer,
        "thumb": answer.feedback.current().of_user(request.user).first(),
        "form": form,
        "is_open": is_open,
        "is_thanked": is_thanked,
    }
    refused = form is not None and form.errors
    return render(request, "annotate/_thumbs.html", context, status=422 if refused else 200)


def _why_not(error: Exception) -> str:
    return NOBODY_ANSWERS if isinstance(error, NoLivePolicy) else ONE_AT_A_TIME


of_conversation = [
    path("", chat_conversation, name="chat_conversation"),
    path("send/", chat_send, name="chat_send"),
    path("rename/", chat_rename, name="chat_rename"),
    path("settings/", chat_settings, name="chat_settings"),
    path("delete/", chat_delete, name="chat_delete"),
]
of_question = [
    path("edit/", chat_edit, name="chat_edit"),
    path("version/", chat_version, name="chat_version"),
]
of_answer = [
    path("", chat_turn, name="chat_turn"),
    path("stream/", chat_stream, name="chat_stream"),
    path("stop/", chat_stop, name="chat_stop"),
    path("regenerate/", chat_regenerate, name="chat_regenerate"),
    path("prefer/", chat_prefer, name="chat_prefer"),
    path("show/", chat_show, name="chat_show"),
    path("thumb/", chat_thumb, name="chat_thumb"),
    path("feedback/", chat_feedback, name="chat_feedback"),
    path("reasons/", chat_reasons, name="chat_reasons"),
]
