"""Turns a number from a URL into a round, run or model this operator may touch; see
annotate.access."""

from __future__ import annotations

from django.shortcuts import get_object_or_404

from annotate.access import Request, Role, project_for
from rlhf.models.checkpoints import Checkpoint
from rlhf.models.runs import Round, Run


def round_for(request: Request, slug: str, number: int) -> Round:
    """Finds a round of this operator's project by its number, with its runs."""
    project = project_for(request, slug, Role.OPERATOR)
    rounds = Round.objects.of_project(project).with_runs().select_related("project")
    return get_object_or_404(rounds, number=number)


def run_for(request: Request, slug: str, run_id: int) -> Run:
    """Finds a run of this operator's project."""
    project = project_for(request, slug, Role.OPERATOR)
    runs = Run.objects.of_project(project).select_related("project", "round", "launched_by")
    return get_object_or_404(runs, pk=run_id)


def model_for(request: Request, slug: str, model_id: int) -> Checkpoint:
    """Returns a published model, named by the number of its checkpoint; raises Http404 where this
    person may not see it."""
    project = project_for(request, slug, Role.OPERATOR)
    models = Checkpoint.objects.published().select_related("run__project", "run__round")
    return get_object_or_404(models, pk=model_id, run__project=project)
