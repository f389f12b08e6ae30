"""The queue: which machine does what, what waits, and in which order."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods

from annotate.access import Request, Role, project_for
from annotate.ids import id_in
from rlhf.access import run_for
from rlhf.models.machines import Machine
from rlhf.rounds.starts import starts_of
from rlhf.runs.queue import move, queue

MOVES = {"up": -1, "down": 1}
TAKES = {
    "drain": Machine.Takes.NOTHING_NEW,
    "pause": Machine.Takes.NOTHING,
    "open": Machine.Takes.ANY,
}


@require_http_methods(["GET", "POST"])
def rounds_queue(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.OPERATOR)
    if request.method == "POST":
        if not _act(request, slug):
            messages.warning(request, "Nothing was changed: the queue had already moved on.")
        return redirect("rounds_queue", slug=slug)
    now = queue()
    context = {"project": project, "queue": now, "starts": starts_of(now)}
    return render(request, "rlhf/queue.html", context)


def _act(request: Request, slug: str) -> bool:
    act = request.POST.get("act", "")
    if act in MOVES:
        run = run_for(request, slug, id_in(request.POST.get("run")) or 0)
        return move(run, by=MOVES[act])
    if act not in TAKES:
        return False
    machine = get_object_or_404(Machine, pk=id_in(request.POST.get("machine")) or 0)
    return machine.take(TAKES[act])
