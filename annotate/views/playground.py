"""Playground: prompts × ways of prompting, side by side; what works becomes a policy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotate.access import Request, Role, grid_for, policy_for, project_for
from annotate.chat import inference
from annotate.chat.inference import InferenceError
from annotate.ids import id_in
from annotate.labelling.queue import rank_grid
from annotate.labels.forms import Text
from annotate.people.models import Project
from annotate.playground.grids import MOST_COLUMNS, MOST_PROMPTS, Column, Grid
from annotate.prompts.models import Messages, validate_prompt_format
from annotate.prompts.policies import Policy

LONGEST_WORDS = 8000
TURN = re.compile(r"^(User|Assistant):[ \t]*", re.MULTILINE)


class PromptsForm(forms.Form):
    prompts = Text(
        rows=6,
        label="Prompts",
        max_length=MOST_PROMPTS * LONGEST_WORDS,
        help_text=f"Up to {MOST_PROMPTS}, separated by empty lines.",
        error_messages={"required": "Write at least one prompt."},
    )

    def clean_prompts(self) -> list[str]:
        prompts = [each.strip() for each in re.split(r"\n\s*\n", self.cleaned_data["prompts"])]
        prompts = [each for each in prompts if each]
        if len(prompts) > MOST_PROMPTS:
            raise ValidationError(f"That is {len(prompts)} prompts. Use at most {MOST_PROMPTS}.")
        return prompts


class WordsForm(forms.Form):
    """The words around a prompt, and how the model is sampled."""

    system_prompt = Text(
        rows=3,
        required=False,
        max_length=LONGEST_WORDS,
    )
    few_shot = Text(
        rows=3,
        required=False,
        max_length=LONGEST_WORDS,
        label="Examples",
        help_text="Turns that begin with “User:” or “Assistant:”, in pairs.",
    )
    prompt_format = Text(
        rows=2,
        required=False,
        max_length=LONGEST_WORDS,
        validators=[validate_prompt_format],
        help_text="Delimiters and output format around the prompt, with {prompt} in its place.",
    )
    temperature = forms.FloatField(min_value=0, max_value=2, initial=0.7)
    max_new_tokens = forms.IntegerField(
        min_value=1, max_value=4096, initial=256, label="Maximum length, in tokens"
    )

    def clean_few_shot(self) -> Messages:
        return turns_of(self.cleaned_data["few_shot"])


class ColumnForm(WordsForm):
    weights = forms.ModelChoiceField(
        Policy.objects.none(), required=False, label="Model", empty_label="none"
    )
    field_order = ("weights",)

    def __init__(self, project: Project, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        weights = self.fields["weights"]
        assert isinstance(weights, forms.ModelChoiceField)
        weights.queryset = project.policies.sampleable()

    def column(self) -> Column:
        words = dict(self.cleaned_data)
        weights = words.pop("weights")
        return Column(weights=weights.pk, **words)


def turns_of(text: str) -> Messages:
    """Examples as messages. Raises ValidationError unless they are whole exchanges."""
    before, *parts = TURN.split(text.strip())
    turns = [
        {"role": role.lower(), "content": content.strip()}
        for role, content in zip(parts[::2], parts[1::2], strict=True)
    ]
    roles = [turn["role"] for turn in turns]
    if before.strip() or roles != ["user", "assistant"] * (len(roles) // 2):
        raise ValidationError("Begin each turn with “User:” or “Assistant:”, one after the other.")
    if not all(turn["content"] for turn in turns):
        raise ValidationError("An example cannot be empty.")
    return turns


def text_of(turns: Messages) -> str:
    return "\n".join(f"{turn['role'].capitalize()}: {turn['content']}" for turn in turns)


@require_http_methods(["GET", "POST"])
def playground(request: Request, slug: str) -> HttpResponse:
    """A new grid: from nothing, from an earlier one (?grid=), or from a policy (?policy=)."""
    project = project_for(request, slug, Role.OPERATOR)
    if request.method == "POST":
        asked = PromptsForm(request.POST)
        columns = [ColumnForm(project, request.POST, prefix=f"c{i}") for i in range(MOST_COLUMNS)]
        used = [form for form in columns if form["weights"].value()]
        if not used:
            asked.add_error(None, "Choose the model of at least one column.")
        if asked.is_valid() and all(form.is_valid() for form in used):
            grid = Grid.lay_out(
                project=project,
                author=request.user,
                prompts=asked.cleaned_data["prompts"],
                columns=[form.column() for form in used],
            )
            return redirect("playground_grid", slug, grid.pk)
    else:
        asked, columns = _filled_in(request, project)
    context = {
        "project": project,
        "form": asked,
        "columns": columns,
        "grids": project.grids.select_related("author")[:10],
    }
    refused = asked.errors or any(form.is_bound and form.errors for form in columns)
    status = 422 if request.method == "POST" and refused else 200
    return render(request, "annotate/playground.html", context, status=status)


def _filled_in(request: Request, project: Project) -> tuple[PromptsForm, list[ColumnForm]]:
    prompts, columns = "", []
    if earlier := id_in(request.GET.get("grid")):
        grid = grid_for(request, project.slug, earlier)
        prompts = "\n\n".join(grid.prompts)
        columns = [{**column, "few_shot": text_of(column["few_shot"])} for column in grid.columns]
    else:
        named = id_in(request.GET.get("policy"))
        chosen = policy_for(request, project.slug, named) if named else None
        chosen = chosen or project.policies.live().first()
        columns = [_words_of(chosen)] * 2 if chosen else []
    forms_ = [
        ColumnForm(project, prefix=f"c{i}", initial=columns[i] if i < len(columns) else None)
        for i in range(MOST_COLUMNS)
    ]
    return PromptsForm(initial={"prompts": prompts}), forms_


def _words_of(policy: Policy) -> dict[str, Any]:
    return {
        "weights": policy.pk,
        "system_prompt": policy.system_prompt,
        "few_shot": text_of(policy.few_shot),
        "prompt_format": policy.prompt_format,
        "temperature": policy.temperature,
        "max_new_tokens": policy.max_new_tokens,
    }


@require_GET
def grid(request: Request, slug: str, grid_id: int) -> HttpResponse:
    return _grid_page(request, grid_for(request, slug, grid_id))


def _grid_page(
    request: Request, grid: Grid, *, status: int = 200, trouble: str = ""
) -> HttpResponse:
    columns = [
        {"number": i, "words": grid.column(i), "policy": grid.policy(i)}
        for i in range(len(grid.columns))
    ]
    context = {
        "project": grid.project,
        "grid": grid,
        "columns": columns,
        "rows": list(_rows(grid)),
        "trouble": trouble,
    }
    return render(request, "annotate/grid.html", context, status=status)


def _rows(grid: Grid) -> Iterator[dict[str, Any]]:
    answered = {(cell.row, cell.column): cell for cell in grid.cells.all()}
    for row, prompt in enumerate(grid.prompts):
        cells = [
            {"row": row, "column": column, "cell": answered.get((row, column))}
            for column in range(len(grid.columns))
        ]
        yield {"prompt": prompt, "cells": cells}


@require_POST
def cell(request: Request, slug: str, grid_id: int, row: int, column: int) -> HttpResponse:
    """Has the column answer the row's prompt."""
    grid = grid_for(request, slug, grid_id)
    if row >= len(grid.prompts) or column >= len(grid.columns):
        raise Http404("The grid has no such cell.")
    policy = grid.policy(column)
    answered, trouble = None, ""
    try:
        said = inference.complete(policy, policy.messages_for(grid.messages(row)))
    except InferenceError as error:
        trouble = str(error)
    else:
        answered = grid.answer(row, column, text=said.text, finish_reason=said.finish_reason)
    if not request.htmx:
        if trouble:
            messages.error(request, trouble)
        return redirect("playground_grid", slug, grid.pk)
    place = {"row": row, "column": column, "cell": answered}
    context = {"project": grid.project, "grid": grid, "place": place, "trouble": trouble}
    return render(request, "annotate/_cell.html", context)


@require_POST
def save(request: Request, slug: str, grid_id: int, column: int) -> HttpResponse:
    """Makes a column a policy, which can be sampled, ranked and promoted like any other."""
    grid = grid_for(request, slug, grid_id)
    if column >= len(grid.columns):
        raise Http404("The grid has no such column.")
    try:
        policy = grid.save_column(column, name=request.POST.get("name", ""))
    except ValidationError as error:
        return _grid_page(request, grid, status=422, trouble=" ".join(error.messages))
    messages.success(request, f"{policy} is now a policy.")
    return redirect("playground_grid", slug, grid.pk)


@require_POST
def rank(request: Request, slug: str, grid_id: int) -> HttpResponse:
    """Sends the answers to the labelers, who do not see where they come from."""
    grid = grid_for(request, slug, grid_id)
    try:
        made = rank_grid(grid)
    except ValidationError as error:
        return _grid_page(request, grid, status=422, trouble=" ".join(error.messages))
    if made:
        messages.success(request, f"{made} ranking task{'s' if made > 1 else ''} opened.")
    else:
        messages.info(request, "Labelers already have all answers of this grid.")
    return redirect("playground_grid", slug, grid.pk)


of_grid = [
    path("", grid, name="playground_grid"),
    path("cells/<int:row>/<int:column>/", cell, name="playground_cell"),
    path("columns/<int:column>/save/", save, name="playground_save"),
    path("rank/", rank, name="playground_rank"),
]
