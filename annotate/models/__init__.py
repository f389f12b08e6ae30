"""Who said what, and what people thought of it."""

from annotate.models.chat import Conversation
from annotate.models.demonstrations import Demonstration
from annotate.models.feedback import Feedback
from annotate.models.flags import PromptFlag
from annotate.models.messages import Message
from annotate.models.people import Guideline, Membership, Project, User
from annotate.models.playground import Cell, Grid
from annotate.models.policies import Completion, Policy
from annotate.models.prompts import Prompt
from annotate.models.rankings import Placement, Ranking
from annotate.models.reviews import Review
from annotate.models.tokens import ApiToken
from annotate.models.uploads import Upload
from annotate.models.withdrawals import Withdrawal
from annotate.models.work import Assignment, Task
from annotate.models.writing import PromptDraft

__all__ = [
    "ApiToken",
    "Assignment",
    "Cell",
    "Completion",
    "Conversation",
    "Demonstration",
    "Feedback",
    "Grid",
    "Guideline",
    "Membership",
    "Message",
    "Placement",
    "Policy",
    "Project",
    "Prompt",
    "PromptDraft",
    "PromptFlag",
    "Ranking",
    "Review",
    "Task",
    "Upload",
    "User",
    "Withdrawal",
]
