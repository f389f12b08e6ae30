"""How a project works: what its leads may set, the guideline its labelers follow, and where to find
what is in it."""

from __future__ import annotations

from typing import ClassVar

from django import forms
from django.conf import settings as django_settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from annotate.access import (
    MAY_ACT_AS,
    Request,
    Role,
    may_begin_projects,
    membership_for,
    project_for,
)
from annotate.audit.recording import about
from annotate.labels.forms import Text
from annotate.palette import LONGEST_WORDS
from annotate.palette import find as find_in
from annotate.people.models import Project
from annotate.projects import begin_project
from annotate.retention import due

LONGEST_GUIDELINE = 100_000
LONGEST_TAG = 50

KEPT = "How long things are kept"
GROUPS = {
    "Work": (
        *("name", "overlap", "ranking_size", "rate_before_ranking", "shows_raw"),
        *("write_lease_minutes", "rank_lease_minutes", "edit_minutes"),
    ),
    "Writing": ("snippets",),
    "Open to labelers": ("own_prompts", "use_cases", "labelers_try"),
    "Chat": ("thumbs_down_work", "thumbs_down_priority", "two_drafts_percent"),
    "Costs": ("currency", "machine_price", "wage"),
    "Qualification and gold": ("qualification_tasks", "qualification_percent", "gold_every"),
    "Review": (
        *("random_review_percent", "low_agreement_percent", "too_fast_percent"),
        *("review_flags", "new_writer_reviews", "new_guest_days"),
    ),
    KEPT: ("keep_chats_days", "keep_api_days", "keep_uploads_days", "keep_drafts_days"),
}


class SettingsForm(forms.ModelForm):
    """The settings of a project, in the groups in which its page shows them."""

    snippets = Text(
        rows=6,
        required=False,
        max_length=20_000,
        label="Snippets",
        help_text="Texts that writers can insert into an answer. Begin each with a line “## Name”.",
    )

    class Meta:
        model = Project
        labels = {
            "overlap": "People per task",
            "ranking_size": "Completions per ranking",
            "rate_before_ranking": "Ratings",
            "shows_raw": "Raw text first",
            "write_lease_minutes": "Minutes to write",
            "rank_lease_minutes": "Minutes to rank or review",
            "edit_minutes": "Minutes to correct an answer",
            "own_prompts": "Prompts by labelers",
            "use_cases": "Use cases",
            "labelers_try": "Playground for labelers",
            "thumbs_down_work": "After a thumbs down",
            "thumbs_down_priority": "Priority of that task",
            "two_drafts_percent": "Percent of questions with two drafts",
            "currency": "Currency",
            "machine_price": "Price of a machine hour",
            "wage": "Wage per hour",
            "qualification_tasks": "Tasks to qualify",
            "qualification_percent": "Percent needed to qualify",
            "gold_every": "Hidden gold: one task in",
            "random_review_percent": "Percent reviewed at random",
            "low_agreement_percent": "Review when agreement is below (percent)",
            "too_fast_percent": "Review when time is below (percent of median)",
            "review_flags": "Review flags",
            "new_writer_reviews": "Reviews of new writers",
            "new_guest_days": "Days a guest counts as new",
            "keep_chats_days": "Days to keep chats of guests",
            "keep_api_days": "Days to keep exchanges through the API",
            "keep_uploads_days": "Days to keep uploads",
            "keep_drafts_days": "Days to keep drafts",
        }
        fields = tuple(name for names in GROUPS.values() for name in names)
        widgets: ClassVar = {"use_cases": forms.Textarea(attrs={"rows": 4})}

    def clean_snippets(self) -> str:
        text: str = self.cleaned_data["snippets"].strip("\n")
        if text and not text.startswith("## "):
            raise forms.ValidationError("Begin with a line “## Name”, and the text below it.")
        return text

    def clean_use_cases(self) -> str:
        lines = [line.strip() for line in self.cleaned_data["use_cases"].splitlines()]
        if too_long := [line for line in lines if len(line) > LONGEST_TAG]:
            raise forms.ValidationError(
                f"A use case is a tag, of {LONGEST_TAG} characters at most: shorten "
                f"“{too_long[0]}”."
            )
        return "\n".join(dict.fromkeys(filter(None, lines)))

    @property
    def groups(self) -> list[tuple[str, list[forms.BoundField]]]:
        return [(title, [self[name] for name in names]) for title, names in GROUPS.items()]


class GuidelineForm(forms.Form):
    text = Text(
        rows=18,
        label="Guideline",
        max_length=LONGEST_GUIDELINE,
        help_text="Markdown. Everyone has to confirm a new version before the next task.",
    )


class NewProjectForm(forms.ModelForm):
    class Meta:
        model = Project
        fields = ("name",)
        help_texts: ClassVar = {
            "name": "You will be its operator. It starts without prompts or a guideline."
        }


@require_http_methods(["GET", "POST"])
def project_new(request: Request) -> HttpResponse:
    if not may_begin_projects(request.user):
        raise PermissionDenied("Only operators of a project can create another one.")
    form = NewProjectForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        new = begin_project(
            name=form.cleaned_data["name"],
            operator=request.user.username,
            model=django_settings.BASE_MODEL,
        )
        about(new)
        return redirect("project", new.slug)
    status = 422 if form.errors else 200
    return render(request, "annotate/project_new.html", {"form": form}, status=status)


@require_http_methods(["GET", "POST"])
def settings(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.OPERATOR)
    form = SettingsForm(request.POST or None, instance=project)
    if request.method == "POST" and form.is_valid():
        form.save()
        messages.success(request, "Saved. The settings apply to tasks opened from now on.")
        return redirect("project_settings", slug)
    # As it is stored: a form that was refused has changed the object.
    stored = project_for(request, slug, Role.OPERATOR)
    context = {"project": project, "form": form, "kept": KEPT, "due": due(stored)}
    status = 422 if form.errors else 200
    return render(request, "annotate/settings.html", context, status=status)


@require_http_methods(["GET", "POST"])
def guideline(request: Request, slug: str) -> HttpResponse:
    """The guideline, old versions of it too; reading it opens the way to the next task."""
    project = project_for(request, slug, Role.LABELER)
    member = membership_for(request, slug)
    versions = list(project.guidelines.select_related("author").order_by("-version"))
    if request.method == "POST":
        if versions and request.POST.get("version") == str(versions[0].version):
            member.acknowledge(versions[0])
            return redirect("label", slug)
        messages.error(request, "A newer version has been published. Please read this one.")
        return redirect("guideline", slug)
    asked = request.GET.get("version", "")
    shown = next((each for each in versions if str(each.version) == asked), None)
    context = {
        "project": project,
        "versions": versions,
        "guideline": shown or (versions[0] if versions else None),
        "is_unread": not member.has_read_guideline,
        "may_publish": member.role in MAY_ACT_AS[Role.OPERATOR],
    }
    return render(request, "annotate/guideline.html", context)


@require_http_methods(["GET", "POST"])
def guideline_new(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.OPERATOR)
    current = project.guideline
    form = GuidelineForm(request.POST or None, initial={"text": current.text if current else ""})
    if request.method == "POST" and form.is_valid():
        new = project.publish_guideline(text=form.cleaned_data["text"], author=request.user)
        messages.success(request, f"Version {new.version} is published.")
        return redirect("guideline", slug)
    context = {"project": project, "form": form, "current": current}
    status = 422 if form.errors else 200
    return render(request, "annotate/guideline_new.html", context, status=status)


class FindForm(forms.Form):
    q = forms.CharField(max_length=LONGEST_WORDS, required=False)


@require_GET
def find(request: Request, slug: str) -> HttpResponse:
    """The command palette's results; for who has no JavaScript, or wants all of them, a page."""
    membership = membership_for(request, slug)
    form = FindForm(request.GET)
    words = form.cleaned_data["q"] if form.is_valid() else ""
    context = {"project": membership.project, "form": form, "words": words}
    context["groups"] = find_in(membership, words) if form.is_valid() else []
    template = "annotate/_found.html" if request.htmx else "annotate/find.html"
    return render(request, template, context)
