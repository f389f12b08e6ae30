"""A labeler talks: every button of the page is one of these, and ends on the page again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from asgiref.sync import async_to_sync
from django.core.exceptions import ValidationError
from django.http import Http404, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.views.decorators.http import require_GET, require_POST

from annotate.access import Request, assignment_for
from annotate.chat import streaming
from annotate.labels.kinds.talk import turns
from annotate.labels.kinds.talk.answer import TalkForm
from annotate.labels.kinds.talk.turns import Turn, TurnAnswer
from annotate.views.label import work_page
from annotate.work.assignments import Assignment
from annotate.work.tasks import Task
from feedback_site.pool import in_database


@require_POST
def say(request: Request, slug: str, talk_id: int, number: int) -> HttpResponse:
    work = _talk_for(request, slug, talk_id)

    def act(form: TalkForm) -> None:
        text = form.cleaned_data["said"]
        if not text:
            raise ValidationError("Write something first.")
        turn = turns.say(work, text=text, number=number)
        _hear(request, turn.pair)

    return _then(request, work, act, "said", "edited")


@require_POST
def choose(request: Request, slug: str, talk_id: int, turn_id: int) -> HttpResponse:
    work = _talk_for(request, slug, talk_id)

    def act(form: TalkForm) -> None:
        said = form.cleaned_data
        is_bad = said["outcome"] == "all_bad"
        turns.choose(work, turn=turn_id, choice=Turn.BOTH_BAD if is_bad else said["choice"])

    return _then(request, work, act, "edited")


@require_POST
def think_again(request: Request, slug: str, talk_id: int, turn_id: int) -> HttpResponse:
    work = _talk_for(request, slug, talk_id)
    return _then(request, work, lambda _: turns.think_again(work, turn=turn_id), "edited")


@require_POST
def correct(request: Request, slug: str, talk_id: int, turn_id: int) -> HttpResponse:
    work = _talk_for(request, slug, talk_id)

    def act(form: TalkForm) -> None:
        turns.correct(work, turn=turn_id, text=form.cleaned_data["edited"])

    return _then(request, work, act, "edited")


@require_POST
def go_back(request: Request, slug: str, talk_id: int, turn_id: int) -> HttpResponse:
    """To say something else in a turn. What was said there is in the field again."""
    work = _talk_for(request, slug, talk_id)
    said = ""

    def act(form: TalkForm) -> None:
        nonlocal said
        said = turns.go_back(work, turn=turn_id)

    response = _then(request, work, act, "said", "edited")
    if said:
        draft = {**work.draft, "said": said}
        work.keep_alive(draft=draft, active_seconds=work.active_seconds)
    return response


@require_POST
def retry(request: Request, slug: str, talk_id: int, answer_id: int) -> HttpResponse:
    work = _talk_for(request, slug, talk_id)

    def act(form: TalkForm) -> None:
        answer = _answer_in(work, answer_id)
        answer.retry()
        _hear(request, [answer])

    return _then(request, work, act)


@require_POST
def look(request: Request, slug: str, talk_id: int) -> HttpResponse:
    """The talk as it stands now, with what is typed and the time it took kept."""
    return _then(request, _talk_for(request, slug, talk_id), lambda form: None)


@require_GET
async def stream(request: Request, slug: str, talk_id: int, answer_id: int) -> HttpResponseBase:
    """An answer while it is being written, as server-sent events."""

    def find() -> TurnAnswer:
        return _answer_in(_talk_for(request, slug, talk_id), answer_id)

    return StreamingHttpResponse(
        streaming.server_sent_events(await in_database(find)),
        content_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def _talk_for(request: Request, slug: str, talk_id: int) -> Assignment:
    work = assignment_for(request, slug, talk_id)
    if work.task.kind != Task.Kind.TALK:
        raise Http404("This is no talk.")
    return work


def _answer_in(work: Assignment, answer_id: int) -> TurnAnswer:
    answer = turns.answer_in(work, answer_id)
    if answer is None:
        raise Http404("Nothing here.")
    return answer


def _then(
    request: Request, work: Assignment, act: Callable[[TalkForm], Any], *used: str
) -> HttpResponse:
    """Does it, renews the lease, and keeps what is typed but for the fields that are `used` up."""
    form = TalkForm(work, request.POST)
    if not form.is_valid():
        return work_page(request, work, form, status=422)
    try:
        act(form)
    except ValidationError as error:
        form.add_error(None, error)
        return work_page(request, work, form, status=422)
    draft = {name: value for name, value in form.draft().items() if name not in used}
    work.keep_alive(draft=draft, active_seconds=form.cleaned_data["active_seconds"])
    return redirect("assignment", slug=work.task.project.slug, assignment_id=work.pk)


def _hear(request: Request, answers: list[TurnAnswer]) -> None:
    """With JavaScript the page opens the streams of the answers; without, they come whole."""
    if not request.htmx:
        async_to_sync(_write)(answers)


async def _write(answers: list[TurnAnswer]) -> None:
    await asyncio.gather(*(streaming.write_whole(answer) for answer in answers))


of_talk = [
    path("say/<int:number>/", say, name="talk_say"),
    path("look/", look, name="talk_look"),
    path("turns/<int:turn_id>/choose/", choose, name="talk_choose"),
    path("turns/<int:turn_id>/think-again/", think_again, name="talk_think_again"),
    path("turns/<int:turn_id>/correct/", correct, name="talk_correct"),
    path("turns/<int:turn_id>/back/", go_back, name="talk_go_back"),
    path("answers/<int:answer_id>/retry/", retry, name="talk_retry"),
    path("answers/<int:answer_id>/stream/", stream, name="talk_stream"),
]
