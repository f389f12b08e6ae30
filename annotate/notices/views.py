"""The inbox of an operator, and what its script asks for."""

from __future__ import annotations

from django.http import HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods

from annotate.access import Request, Role, project_for
from annotate.ids import id_in
from annotate.notices.models import Notice, unseen_of
from annotate.paging import page_of


@require_http_methods(["GET", "POST"])
def notices(request: Request, slug: str) -> HttpResponse:
    """One's own, the newest first. What came after the page was shown stays new."""
    project = project_for(request, slug, Role.OPERATOR)
    mine = Notice.objects.of(request.user, project)
    if request.method == "POST":
        mine.up_to(id_in(request.POST.get("newest", "")) or 0).mark_seen()
        return redirect("notices", slug=slug)
    context = {
        "project": project,
        "page": page_of(mine, request.GET, newest_first=True),
        "newest": mine.first(),
    }
    return render(request, "annotate/notices.html", context)


@require_GET
@never_cache
def unseen(request: Request, slug: str) -> JsonResponse:
    """How many are new, and the newest of them."""
    project = project_for(request, slug, Role.OPERATOR)
    newest = Notice.objects.of(request.user, project).unseen().first()
    return JsonResponse(
        {
            "unseen": unseen_of(person=request.user.pk, project=project.pk),
            "newest": newest and {"id": newest.pk, "subject": newest.subject},
        }
    )
