"""Published models: the list, one of them with its card and files, and its download."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator

from asgiref.sync import sync_to_async
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from annotate.access import Request, Role, project_for
from rlhf.access import model_for
from rlhf.registry import Gone, card_of, files_of, published, tar_of


@require_GET
def models(request: Request, slug: str) -> HttpResponse:
    project = project_for(request.user, slug, Role.OPERATOR)
    context = {"project": project, "models": published(project)}
    return render(request, "rlhf/models.html", context)


@require_GET
def models_show(request: Request, slug: str, model_id: int) -> HttpResponse:
    model = model_for(request.user, slug, model_id)
    try:
        files, card, gone = files_of(model), card_of(model), ""
    except Gone as error:
        files, card, gone = [], "", str(error)
    context = {
        "project": model.run.project,
        "model": model,
        "files": files,
        "size": sum(file["size"] for file in files),
        "card": card,
        "gone": gone,
        "config": json.dumps(model.run.config, indent=2, ensure_ascii=False),
    }
    return render(request, "rlhf/model.html", context)


@require_GET
def models_download(request: Request, slug: str, model_id: int) -> StreamingHttpResponse:
    model = model_for(request.user, slug, model_id)
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
