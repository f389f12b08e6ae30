"""Published models: the list, one of them with its card and files, and its download."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.template.defaultfilters import filesizeformat
from django.views.decorators.http import require_GET, require_http_methods

from annotate.access import Request, Role, project_for
from rlhf.access import model_for
from rlhf.data.staleness import stale_in
from rlhf.registry.by_labeler import agreement_behind, by_labeler
from rlhf.registry.health import accuracies_of, health_of
from rlhf.registry.published import Gone, card_of, files_of, published, tar_of
from rlhf.registry.retention import KEEP_ROUNDS, disk_use_of, prune_models
from rlhf.rounds.forms import PruneForm
from rlhf.rounds.settings import chosen_for


@require_http_methods(["GET", "POST"])
def policies_models(request: Request, slug: str) -> HttpResponse:
    """Lists published models; a POST removes the files of those that nothing needs."""
    project = project_for(request, slug, Role.OPERATOR)
    form = PruneForm(request.POST or request.GET or None)
    keep_rounds = form.cleaned_data["keep_rounds"] if form.is_valid() else KEEP_ROUNDS
    if request.method == "POST" and form.is_valid():
        freed = prune_models(project, keep_rounds=keep_rounds)
        messages.success(request, f"{filesizeformat(freed)} are free again.")
        return redirect("policies_models", slug=slug)
    use = disk_use_of(project, keep_rounds=keep_rounds)
    models = published(project)
    context = {
        "project": project,
        "models": models,
        "accuracies": accuracies_of(model.run for model in models),
        "use": use,
        "held": {each.model.pk: each for each in use.holdings},
        "keep_rounds": keep_rounds,
        "stale": stale_in(project).runs,
    }
    return render(request, "rlhf/models.html", context)


@require_http_methods(["GET", "POST"])
def policies_model(request: Request, slug: str, model_id: int) -> HttpResponse:
    model = model_for(request, slug, model_id)
    if request.method == "POST":
        model.keep(kept=request.POST.get("act") == "keep")
        return redirect("policies_models", slug=slug)
    try:
        files, card, gone = files_of(model), card_of(model), ""
    except Gone as error:
        files, card, gone = [], "", str(error)
    chosen = chosen_for(model.run)
    context = {
        "project": model.run.project,
        "model": model,
        "files": files,
        "size": sum(file["size"] for file in files),
        "card": card,
        "health": health_of(model.run),
        "labelers": by_labeler(model.run),
        "people": agreement_behind(model.run),
        "gone": gone,
        "is_stale": model.run_id in stale_in(model.run.project).runs,
        "chosen": json.dumps(chosen, indent=2, ensure_ascii=False) if chosen else "",
    }
    return render(request, "rlhf/model.html", context)


@require_GET
def policies_model_tar(request: Request, slug: str, model_id: int) -> StreamingHttpResponse:
    model = model_for(request, slug, model_id)
    name = f"{slug}-{model.name}".replace(" ", "-")
    try:
        files_of(model)
    except Gone as error:
        raise Http404(str(error))
    response = StreamingHttpResponse(_in_threads(tar_of(model, name)))
    response["Content-Type"] = "application/x-tar"
    response["Content-Disposition"] = f'attachment; filename="{name}.tar"'
    return response


async def _in_threads(blocks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Reads the disk beside the event loop."""
    while (block := await sync_to_async(lambda: next(blocks, None))()) is not None:
        yield block
