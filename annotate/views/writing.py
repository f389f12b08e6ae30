"""Prompts that labelers think of themselves: a page to write one, and what became of them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from annotate.access import Request, Role, membership_for, project_for
from annotate.labelling.own_prompts import Asked, PromptDraft, few_shot, plain, write_prompts
from annotate.labels.forms import Text, without_nul
from annotate.labels.gold import qualification_of
from annotate.labels.label import LONGEST_ANSWER
from annotate.paging import page_of
from annotate.people.models import Membership, Project
from annotate.prompts.models import LONGEST_PROMPT, Prompt

FEWEST_PAIRS, MOST_PAIRS = 3, 10
Kind = Prompt.Kind


class PlainForm(forms.Form):
    text = Text(
        rows=6,
        label="The prompt",
        max_length=LONGEST_PROMPT,
        error_messages={"required": "Write what you would ask."},
    )
    answer = Text(
        rows=8,
        label="What you would answer",
        required=False,
        max_length=LONGEST_ANSWER,
        help_text="Optional. It becomes a demonstration, which you find in My work.",
    )

    def __init__(self, project: Project, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.project = project

    def asked(self) -> list[Asked]:
        return list(plain(self.cleaned_data["text"], self.cleaned_data["answer"]))

    def tags(self) -> list[str]:
        return []


class UseCaseForm(PlainForm):
    def __init__(self, project: Project, *args: Any, **options: Any) -> None:
        super().__init__(project, *args, **options)
        choices = [(name, name) for name in project.use_case_names]
        self.fields["use_case"] = forms.ChoiceField(label="The use case", choices=choices)
        self.order_fields(("use_case", *self.fields))

    def tags(self) -> list[str]:
        return [self.cleaned_data["use_case"]]


class FewShotForm(forms.Form):
    instruction = Text(
        rows=3,
        label="The instruction",
        max_length=4000,
        help_text="What to do with each query, such as “Name the mood of the sentence.”",
        error_messages={"required": "Write the instruction that all the queries share."},
    )

    def __init__(
        self,
        project: Project,
        sent: QueryDict | None = None,
        initial: dict[str, str] | None = None,
    ) -> None:
        is_growing = sent is not None and "more" in sent
        # A page that asks for one more pair shows what was typed, and complains of nothing yet.
        known = sent.dict() if sent else initial
        super().__init__(None if is_growing else sent, initial=known)
        pairs = sum(name.startswith("query_") for name in known or ()) + is_growing
        self.count = min(max(pairs, FEWEST_PAIRS), MOST_PAIRS)
        for number in range(1, self.count + 1):
            for name in ("query", "response"):
                self.fields[f"{name}_{number}"] = Text(
                    rows=2,
                    label=f"{name.capitalize()} {number}",
                    required=False,
                    max_length=LONGEST_PROMPT,
                )

    @property
    def rows(self) -> list[tuple[forms.BoundField, forms.BoundField]]:
        return [(self[f"query_{n}"], self[f"response_{n}"]) for n in range(1, self.count + 1)]

    @property
    def may_grow(self) -> bool:
        return self.count < MOST_PAIRS

    def clean(self) -> dict[str, Any]:
        said = self.cleaned_data
        numbers = range(1, self.count + 1)
        pairs = [(said.get(f"query_{n}", ""), said.get(f"response_{n}", "")) for n in numbers]
        for number, (query, response) in enumerate(pairs, start=1):
            if bool(query) != bool(response):
                missing = "response" if query else "query"
                self.add_error(f"{missing}_{number}", "Each query needs a response.")
        said["pairs"] = [pair for pair in pairs if all(pair)]
        if len({query for query, _ in said["pairs"]}) < 2 and not self.errors:
            raise ValidationError("Write at least two different queries, each with a response.")
        size = len(said.get("instruction", "")) + sum(len(q) + len(r) for q, r in said["pairs"])
        if size > LONGEST_PROMPT:
            raise ValidationError(
                f"Together that is {size:,} characters, and at most {LONGEST_PROMPT:,} fit."
            )
        return said

    def asked(self) -> list[Asked]:
        return list(few_shot(self.cleaned_data["instruction"], self.cleaned_data["pairs"]))

    def tags(self) -> list[str]:
        return []


FORMS: dict[str, Any] = {
    Kind.PLAIN: PlainForm,
    Kind.FEW_SHOT: FewShotForm,
    Kind.USE_CASE: UseCaseForm,
}


@require_http_methods(["GET", "POST"])
def own_prompts(request: Request, slug: str) -> HttpResponse:
    project = _project_for(request, slug)
    member = membership_for(request, slug)
    if not member.has_read_guideline:
        return redirect("guideline", slug)
    if qualification_of(member):  # it comes before all other work
        return redirect("label", slug)
    kind = _kind(request, project)
    draft = None if request.POST else PromptDraft.begun(member, kind)
    values = draft.values if draft else None
    form = FORMS[kind](project, request.POST or None, initial=values)
    if form.is_valid() and _write(request, member, kind, form):
        return redirect(f"{request.path}?kind={kind}")
    page = page_of(project.prompts.by(request.user), request.GET, size=25, newest_first=True)
    context = {"project": project, "form": form, "kind": kind, "kinds": _kinds(project)}
    context |= {"page": page, "draft": draft}
    status = 422 if form.errors else 200
    return render(request, "annotate/own_prompts.html", context, status=status)


@require_POST
def own_prompts_draft(request: Request, slug: str) -> HttpResponse:
    """Keeps a prompt that is still being written."""
    project = _project_for(request, slug)
    kind = _kind(request, project)
    fields = FORMS[kind](project, request.POST).fields
    typed = {name: without_nul(request.POST.get(name, "")) for name in fields}
    is_begun = any(typed[name] for name, field in fields.items() if isinstance(field, Text))
    member = membership_for(request, slug)
    draft = PromptDraft.keep(membership=member, kind=kind, values=typed if is_begun else {})
    if not request.htmx:
        return redirect(f"{reverse('own_prompts', args=[slug])}?kind={kind}")
    return render(request, "annotate/_saved_at.html", {"at": draft and draft.saved_at})


def _project_for(request: Request, slug: str) -> Project:
    project = project_for(request, slug, Role.LABELER)
    if not project.takes_own_prompts:
        raise Http404("This project doesn't take prompts from labelers.")
    return project


def _kinds(project: Project) -> list[Prompt.Kind]:
    return [k for k in Kind if k in FORMS and (k != Kind.USE_CASE or project.use_case_names)]


def _kind(request: Request, project: Project) -> Prompt.Kind:
    return next((k for k in _kinds(project) if k == request.GET.get("kind")), Kind.PLAIN)


def _write(request: Request, member: Membership, kind: str, form: Any) -> bool:
    try:
        written = write_prompts(membership=member, kind=kind, asked=form.asked(), tags=form.tags())
    except ValidationError as error:
        form.add_error(None, error)
        return False
    messages.success(request, _thanks(written, member.project))
    return True


def _thanks(written: list[Prompt], project: Project) -> str:
    what = f"{len(written)} prompts are" if len(written) > 1 else "Your prompt is"
    if project.own_prompts == Project.OwnPrompts.REVIEWED:
        return f"{what} saved. An operator reviews what you wrote before it is used."
    return f"{what} saved and in use."
