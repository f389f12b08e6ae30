"""Who said what, and what people thought of it."""

from annotate.models.chat import Conversation, Feedback, Message
from annotate.models.labels import Demonstration, Placement, Ranking, Review
from annotate.models.people import Guideline, Membership, Project, User
from annotate.models.prompts import Completion, Policy, Prompt
from annotate.models.work import Assignment, Task

__all__ = [
    "Assignment",
    "Completion",
    "Conversation",
    "Demonstration",
    "Feedback",
    "Guideline",
    "Membership",
    "Message",
    "Placement",
    "Policy",
    "Project",
    "Prompt",
    "Ranking",
    "Review",
    "Task",
    "User",
]
