"""Short background work, rung for by name on the queue “label”. Each job may run twice."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from django.db import InterfaceError, OperationalError

from annotate.accounts import sending as mail
from annotate.chat import complaints
from annotate.chat.feedback import Feedback
from annotate.chat.preferences import Preference
from annotate.documents.embedding import embed_waiting
from annotate.documents.models import Embedder
from annotate.judges import asking as judging
from annotate.judges.grading import judge_cells_for_a_while
from annotate.judges.runs import JudgeRun
from annotate.playground.asking import ask_for_a_while, waiting_grid
from annotate.playground.grids import Grid
from annotate.prompts.policies import Completion
from annotate.quality.drift import look_for_drifts
from annotate.retention import apply_waiting
from annotate.webhooks import sending

logger = logging.getLogger(__name__)

BATCH = 100


def harvest(feedback_id: int) -> None:
    """From thumb to label, or back. The thumb may be gone by now: its chat was deleted."""
    feedback = Feedback.objects.filter(pk=feedback_id).first()
    if feedback:
        feedback.harvest()


def harvest_preference(preference_id: int) -> None:
    """From a choice between two drafts to a ranking, or back; like `harvest`."""
    preference = Preference.objects.filter(pk=preference_id).first()
    if preference:
        preference.harvest()


def rank_beside_drafts(completion_id: int) -> None:
    """New drafts beside a bad answer, for people to rank. It may be gone by now."""
    answer = Completion.objects.filter(pk=completion_id).exclude(message=None).first()
    if answer:
        complaints.rank_beside_drafts(answer)


def deliver(delivery_id: int) -> None:
    """A message to a webhook; it may be gone with that by now."""
    sending.deliver(delivery_id)


def send_mail(mail_id: int) -> None:
    """An e-mail; it may be sent by now."""
    mail.send(mail_id)


def harvest_waiting() -> int:
    """What guests said whose bell was not heard."""
    said: list[Feedback | Preference] = [
        *Feedback.objects.unharvested()[:BATCH],
        *Preference.objects.unharvested()[:BATCH],
    ]
    return sum(_done(partial(_harvested, each)) for each in said)


def ask_cells(grid_id: int) -> int:
    """Asks cells of a playground grid for a while; `look` comes for the rest."""
    grid = Grid.objects.select_related("project").filter(pk=grid_id).first()
    return ask_for_a_while(grid) + judge_cells_for_a_while() if grid else 0


def embed_passages(project_id: int) -> int:
    """Has an embedding model read passages; `look` comes for the rest."""
    embedder = Embedder.objects.select_related("connection", "project", "policy__project").filter(
        project=project_id
    )
    return sum(map(embed_waiting, embedder))


def ask_judge(run_id: int) -> int:
    """Asks a judge for a while; `look` comes for the rest."""
    run = JudgeRun.objects.select_related("judge").filter(pk=run_id).first()
    return judging.ask_for_a_while(run) if run else 0


def look() -> int:
    """All that waits without a bell: what guests said, what webhooks are owed, e-mail, passages to
    embed, the cells of grids, the questions of judges and the answers they grade, by turns, what is
    kept too long, and once a day whether a labeler drifts. Workers call this from time to time."""
    waiting = (
        harvest_waiting,
        sending.deliver_waiting,
        mail.send_waiting,
        _embed_waiting,
        _ask_waiting_cells,
        _ask_waiting_judge,
        judge_cells_for_a_while,
        apply_waiting,
        look_for_drifts,
    )
    return sum(map(_done, waiting))


def _done(work: Callable[[], int]) -> int:
    """Work that fails holds up none of the other: it is tried again at the next look."""
    try:
        return work()
    except (OperationalError, InterfaceError):
        raise  # without a database nothing can be done
    except Exception:
        logger.exception("work that waits ended with an error")
        return 0


def _harvested(said: Feedback | Preference) -> int:
    try:
        said.harvest()
    except Exception:
        said.postpone()  # else a batch of those that always fail would hold up all others
        raise
    return 1


def _embed_waiting() -> int:
    return sum(
        map(
            embed_waiting,
            Embedder.objects.select_related("connection", "project", "policy__project"),
        )
    )


def _ask_waiting_cells() -> int:
    grid = waiting_grid()
    return ask_for_a_while(grid) if grid else 0


def _ask_waiting_judge() -> int:
    run = judging.waiting_run()
    return judging.ask_for_a_while(run) if run else 0
