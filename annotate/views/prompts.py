"""Prompts: what is asked in a project, what came of it, and how it gets out."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from typing import IO
from urllib.parse import urlencode

from asgiref.sync import sync_to_async
from django import forms
from django.contrib import messages
from django.http import Http404, HttpResponse, QueryDict, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from annotate.access import Request, Role, project_for, prompt_for
from annotate.chat.feedback import Feedback
from annotate.exchange.exports import exporting
from annotate.ids import id_in
from annotate.labels.kinds import ABOUT_PROMPTS
from annotate.labels.kinds.kind import LabelKind
from annotate.paging import counted, page_of
from annotate.people.models import Project
from annotate.prompts.flags import PromptFlag
from annotate.prompts.models import Prompt, PromptQuerySet
from annotate.prompts.policies import Completion, CompletionQuerySet
from annotate.prompts.search import alternatives
from annotate.work.batches import plan_batch, plan_of
from annotate.work.tasks import Task

BLOCK = 2**16
MOST_SAID = 20


class PromptFilter(forms.Form):
    words = forms.CharField(
        required=False,
        max_length=200,
        error_messages={
            "max_length": "Search for a shorter piece, of at most %(limit_value)d characters.",
            "null_characters_not_allowed": "Take out the NUL character: no prompt has one.",
        },
    )
    split = forms.ChoiceField(required=False, choices=[("", "any"), *Prompt.Split.choices])
    source = forms.CharField(required=False, max_length=100)
    tag = forms.CharField(required=False, max_length=50)
    work = forms.ChoiceField(required=False, choices=[("", "any"), *Prompt.Work.choices])
    written = forms.ChoiceField(
        required=False, label="By labelers", choices=[("", "any"), *Prompt.Kind.choices]
    )
    flag = forms.ChoiceField(
        required=False,
        label="Flagged",
        choices=[("", "any"), ("any", "for any reason"), *PromptFlag.Reason.choices],
    )
    waiting = forms.BooleanField(required=False)
    archived = forms.BooleanField(required=False)

    def __init__(self, project: Project, asked: QueryDict) -> None:
        super().__init__(asked, auto_id="filter-%s")
        self.project = project
        # Suggested, but any other may be asked for too.
        self.known = {"source": project.prompts.sources(), "tag": project.prompts.tags()}
        for name in self.known:
            self.fields[name].widget.attrs["list"] = f"known-{name}"

    def clean_words(self) -> str:
        words: str = self.cleaned_data["words"]
        if words and not alternatives(words):
            raise forms.ValidationError(
                "There is nothing to search for. Type a word, or part of one."
            )
        return words

    def prompts(self) -> PromptQuerySet:
        """Those asked for; none, while the form asks for something that makes no sense."""
        prompts: PromptQuerySet = self.project.prompts.all()
        if not self.is_valid():
            return prompts.none()
        asked = self.cleaned_data
        if asked["waiting"]:
            prompts = prompts.waiting()
        else:
            prompts = prompts.archived() if asked["archived"] else prompts.active()
        if asked["written"]:
            prompts = prompts.of_kind(asked["written"])
        if asked["flag"]:
            prompts = prompts.flagged("" if asked["flag"] == "any" else asked["flag"])
        if asked["split"]:
            prompts = prompts.in_split(asked["split"])
        if asked["source"]:
            prompts = prompts.from_source(asked["source"])
        if asked["tag"]:
            prompts = prompts.tagged(asked["tag"])
        if asked["work"]:
            prompts = prompts.with_work(asked["work"])
        return prompts.matching(asked["words"])


class TagForm(forms.Form):
    new_tag = forms.CharField(max_length=50)


@require_GET
def prompts(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.OPERATOR)
    asked = PromptFilter(project, request.GET)
    found = asked.prompts()
    page = page_of(
        found.with_counts().with_flags().select_related("author"), request.GET, newest_first=False
    )
    context = {
        "project": project,
        "filter": asked,
        "page": page,
        "count": counted(found),
        "export_kinds": exporting.KINDS,
        "label_kinds": ABOUT_PROMPTS,
        "reasons": dict(PromptFlag.Reason.choices),
        "is_filtered": any(asked.data.get(name) for name in asked.fields),
        "query": urlencode({name: asked.data.get(name, "") for name in asked.fields}),
    }
    return render(request, "annotate/prompts.html", context)


@require_GET
def one(request: Request, slug: str, prompt_id: int) -> HttpResponse:
    prompt = prompt_for(request, slug, prompt_id)
    said = Feedback.objects.trainable().on_answers(prompt.completions.all())
    current = prompt.rankings.current()
    rankings = list(current.select_related("labeler").prefetch_related("placements"))
    places = [
        ({placed.completion_id: placed for placed in each.placed}, each.labeler.display_name)
        for each in rankings
    ]
    context = {
        "project": prompt.project,
        "prompt": prompt,
        "rankings": rankings,
        "completions": [
            (completion, [(placed.get(completion.pk), name) for placed, name in places])
            for completion in prompt.completions.with_thumbs()
        ],
        "said": said.in_words().order_by("-pk")[:MOST_SAID],
        "open_tasks": prompt.tasks.open().with_answers().order_by("pk"),
        "flags": prompt.flags.open().select_related("labeler"),
        "label_kinds": ABOUT_PROMPTS,
        "demonstrations": prompt.demonstrations.current().select_related("labeler"),
    }
    return render(request, "annotate/prompts_one.html", context)


@require_POST
def tasks(request: Request, slug: str) -> HttpResponse:
    """Asks labelers for labels of one kind on the prompts shown, or on those ticked: about their
    completions, or those of them that are ticked."""
    project = project_for(request, slug, Role.OPERATOR)
    found = _selection(project, request.POST)
    kind = ABOUT_PROMPTS.get(request.POST.get("kind", Task.Kind.WRITE))
    if kind is None:
        raise Http404("This kind of label doesn't exist.")
    if not {"chosen", "sure"} & request.POST.keys() and (count := found.active().count()) > 1:
        return _whether_all(request, project, kind, count)
    ticked = request.POST.getlist("completion")
    among = Completion.objects.chosen(ticked) if ticked else None
    made = open_tasks(project, kind, found, among, batch=request.POST.get("batch", "").strip()[:50])
    if made:
        opened = f"{made:,} tasks are" if made > 1 else "One task is"
        messages.success(
            request,
            f"{opened} open. Labelers find them under Label. Deadlines and the people they are for"
            " are under Batches.",
        )
    else:
        messages.info(request, f"No task was opened: {kind.words.lacking}.")
    return _back(request, slug)


def _whether_all(request: Request, project: Project, kind: LabelKind, count: int) -> HttpResponse:
    """Asks whether all that was found is meant, and keeps what was sent for the answer."""
    sent = [(name, value) for name, values in request.POST.lists() for value in values]
    context = {
        "project": project,
        "kind": kind,
        "count": f"{count:,}",
        "sent": [pair for pair in sent if pair[0] != "csrfmiddlewaretoken"],
        "back": _list_as_filtered(request, project.slug),
    }
    return render(request, "annotate/prompts_sure.html", context)


def open_tasks(
    project: Project,
    kind: LabelKind,
    prompts: PromptQuerySet,
    among: CompletionQuerySet | None = None,
    batch: str = "",
) -> int:
    """Opens the tasks of a batch, or of today's, as urgent and for the same people as the tasks
    that are open in it. Returns how many were made."""
    batch = batch or f"opened {timezone.now():%Y-%m-%d}"
    plan = plan_of(project, batch)
    made = kind.open_tasks(project, prompts.active(), batch, among)
    if made and plan:
        plan_batch(project, batch, plan)
    return made


@require_POST
def mark(request: Request, slug: str) -> HttpResponse:
    """Tags the prompts shown, or those ticked; puts them out of use, or back into it."""
    project = project_for(request, slug, Role.OPERATOR)
    selection = _selection(project, request.POST)
    tag = TagForm(request.POST)
    match request.POST.get("act"):
        case "archive":
            said = (
                f"{selection.archive():,} archived. Their labels stay, but they get no new tasks."
            )
        case "settle":
            said = f"{PromptFlag.settle(selection):,} flags resolved."
        case "accept":
            said = f"{selection.accept():,} accepted and in use."
        case "decline":
            said = f"{selection.decline():,} declined. They are archived."
        case "restore":
            said = f"{selection.restore():,} in use again."
        case _ if tag.is_valid():
            said = f"{selection.tag(tag.cleaned_data['new_tag']):,} newly tagged."
        case _:
            messages.error(request, "Nothing was tagged: a tag has 1 to 50 characters.")
            return _back(request, slug)
    messages.success(request, f"Prompts: {said}")
    return _back(request, slug)


def _back(request: Request, slug: str) -> HttpResponse:
    """To the page of the one prompt the act was about, or to the list as it was filtered."""
    if only := id_in(request.POST.get("only")):
        return redirect("prompts_one", slug, only)
    return redirect(_list_as_filtered(request, slug))


def _list_as_filtered(request: Request, slug: str) -> str:
    asked = {n: v for n in PromptFilter.base_fields if (v := request.POST.get(n, ""))}
    return reverse("prompts", args=[slug], query=asked or None)


def _selection(project: Project, asked: QueryDict) -> PromptQuerySet:
    """Of the prompts that the filter finds, those that are ticked; all, if none is."""
    form = PromptFilter(project, asked)
    if not form.is_valid():
        raise Http404("The filter has an unknown value.")
    ticked = asked.getlist("chosen")
    return form.prompts().chosen(ticked) if ticked else form.prompts()


@require_GET
def export(request: Request, slug: str, kind: str) -> StreamingHttpResponse:
    """A whole file or an error, never half of one: it is written before the first byte leaves."""
    project = project_for(request, slug, Role.OPERATOR)
    kind = exporting.canonical(kind)
    if kind not in exporting.KINDS:
        raise Http404("Nothing of this kind is exported.")
    is_anonymous = "anonymous" in request.GET
    format = request.GET.get("format", "jsonl")
    if format not in exporting.FORMATS:
        raise Http404("Nothing is exported in this format.")
    is_selection = bool({*PromptFilter.base_fields, "chosen"} & request.GET.keys())
    selection = _selection(project, request.GET) if is_selection else None
    lines = exporting.lines(project, kind, anonymous=is_anonymous, prompts=selection)
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the last block has left
    exporting.write(file, lines, format)
    size = file.tell()
    file.seek(0)
    response = StreamingHttpResponse(_blocks(file), content_type=exporting.FORMATS[format])
    response["Content-Length"] = str(size)
    name = f"{project.slug}-{kind}.{format}"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


async def _blocks(file: IO[bytes]) -> AsyncIterator[bytes]:
    with file:
        while block := await sync_to_async(file.read)(BLOCK):
            yield block
