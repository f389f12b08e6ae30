"""What a policy reads of a project's documents before it answers: the one place that looks it up,
for chat, gateway, playground, sampling and suites alike."""

from __future__ import annotations

from annotate.documents.search import best_passages
from annotate.prompts.models import Messages
from annotate.prompts.passages import Read
from annotate.prompts.policies import Policy
from annotate.prompts.windows import room_of, size_of


def consulted(policy: Policy, conversation: Messages) -> list[Read]:
    """The best passages for the last question, as many as the policy reads and its model's window
    has room for beside the conversation; none of a policy that reads none."""
    if not policy.passages_read or not conversation:
        return []
    question = conversation[-1]["content"]
    found = best_passages(policy.project, question, policy.passages_read)
    read: list[Read] = [
        {
            "number": number,
            "document": each.passage.document_id,
            "name": each.passage.document.source,
            "version": each.passage.document.version,
            "score": round(each.score, 4),
            "text": each.passage.text,
        }
        for number, each in enumerate(found, start=1)
    ]
    room = room_of(policy)
    while read and room is not None:
        if size_of(policy.messages_for(conversation, read)) <= room:
            break
        read.pop()
    return read
