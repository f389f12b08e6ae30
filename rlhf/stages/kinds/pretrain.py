"""Pre-training: the base reads raw documents of the domain, token by token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from annotate.models import Project
from rlhf.data.checks import Finding, Labels
from rlhf.data.selection import HELD_OUT, TRAIN, Filters, documents
from rlhf.data.snapshot import Frozen, Rows, document_row
from rlhf.models.runs import Run
from rlhf.stages.chart import LOSS, Chart
from rlhf.stages.training import Shown, Training


def check_documents(labels: Labels) -> Iterator[Finding]:
    """Finds out whether there is a document to read."""
    if not labels.counts["documents"]:
        message = "There are no documents to pre-train on. Import some on the page Documents."
        yield Finding("no_documents", message, is_error=True)


class Pretrain(Training):
    kind = Run.Kind.PRETRAIN
    hint = "reads raw documents of the domain"
    learnt_from = "documents"
    counted = ("documents",)
    without_data = "There are no documents to read. Import some, then resume the run."
    label_checks = (check_documents,)
    shows = (Shown("Documents", "documents", page="documents"),)
    charts = (Chart("Pre-training loss", "nats per token", LOSS),)

    def collect(self, project: Project, filters: Filters, *, train: Mapping[str, Any]) -> Frozen:
        to_learn = list(documents(project, filters).in_split(*TRAIN))
        test = list(documents(project, filters).in_split(*HELD_OUT))
        return Frozen(
            files={
                "train": [document_row(each) for each in to_learn],
                "test": [document_row(each) for each in test],
            },
            documents=[*to_learn, *test],
        )

    def steps(self, train: Mapping[str, Any], rows: Rows) -> int | None:
        return None  # documents are packed into rows of tokens


PRETRAIN = Pretrain()
