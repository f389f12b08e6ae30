"""Facts that only the documents tell, asked in four ways: what each can do."""

from __future__ import annotations

from dataclasses import dataclass

from django.core.exceptions import ValidationError

from annotate.documents.models import Document
from annotate.people.models import Project
from annotate.prompts.policies import Policy
from annotate.prompts.windows import BYTES_A_TOKEN, room_of

MOST_FACTS = 100
MOST_IN_PROMPT = 60_000  # characters of documents in a prompt
BARE, IN_PROMPT = "bare", "documents in the prompt"
RETRIEVAL, TRAINED = "retrieval", "pre-trained on the documents"
ASKED = "Answer from these documents.\n\n"


@dataclass(frozen=True)
class Fact:
    question: str
    answer: str  # which a right answer contains


def facts_in(text: str) -> list[Fact]:
    """Reads one fact a line, the question and the answer parted by a bar. Raises
    ValidationError."""
    facts = []
    for number, line in enumerate(text.splitlines(), start=1):
        question, bar, answer = map(str.strip, line.rpartition("|"))
        if not line.strip():
            continue
        if not (bar and question and answer):
            raise ValidationError(f"Line {number}: write the question, a bar |, and the answer.")
        facts.append(Fact(question, answer))
    if len(facts) > MOST_FACTS:
        raise ValidationError(f"That is {len(facts)} questions. Use at most {MOST_FACTS}.")
    return facts


def in_prompt(project: Project, policy: Policy) -> str:
    """The documents in force, one after the other, as far as they fit into what the policy's model
    can read beside a question."""
    room = room_of(policy)
    most = MOST_IN_PROMPT if room is None else min(MOST_IN_PROMPT, room * BYTES_A_TOKEN // 2)
    told, left = [], most - len(ASKED)
    for text in Document.objects.of_project(project).current().values_list("text", flat=True):
        told.append(text[:left])
        left -= len(told[-1]) + 2
        if left <= 0:
            break
    return ASKED + "\n\n".join(told)


def ways(
    project: Project, *, model: Policy, passages: int, trained: Policy | None
) -> list[tuple[str, Policy, dict[str, object]]]:
    """(name, whose weights, what differs from the policy) of each way that can be asked."""
    asked: list[tuple[str, Policy, dict[str, object]]] = [
        (BARE, model, {"passages_read": 0}),
        (IN_PROMPT, model, {"passages_read": 0, "system_prompt": in_prompt(project, model)}),
        (RETRIEVAL, model, {"passages_read": passages}),
    ]
    if trained:
        asked.append((TRAINED, trained, {"passages_read": 0}))
    return asked
