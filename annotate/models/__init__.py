"""Who said what, and what people thought of it."""

from annotate.accounts.mails import Mail
from annotate.accounts.sign_ins import SignIn
from annotate.audit.entries import AuditEntry
from annotate.chat.conversations import Conversation
from annotate.chat.feedback import Feedback
from annotate.chat.measures import Measure
from annotate.chat.messages import Message
from annotate.chat.preferences import Preference
from annotate.chat.shares import Share
from annotate.connections.models import CallPlace, Connection
from annotate.costs.models import Call
from annotate.documents.models import Document, Embedder, Passage
from annotate.exchange.uploads import Upload
from annotate.judges.models import Judge
from annotate.judges.opinions import Opinion
from annotate.judges.questions import JudgeQuestion
from annotate.judges.runs import JudgeRanking, JudgeRun
from annotate.labelling.own_prompts import PromptDraft
from annotate.labels.kinds.demonstration import Demonstration
from annotate.labels.kinds.ranking.answer import Placement, Ranking
from annotate.labels.kinds.talk.answer import Talk
from annotate.labels.kinds.talk.turns import TalkPlan, Turn, TurnAnswer
from annotate.labels.reviews import Review
from annotate.notices.models import Notice
from annotate.people.invitations import Invitation, SignInLink
from annotate.people.models import Guideline, Membership, Project, User
from annotate.people.replies import Reply
from annotate.people.tokens import ApiToken
from annotate.playground.cells import Cell
from annotate.playground.grids import Grid
from annotate.playground.own_rules import OwnRule
from annotate.prompts.flags import PromptFlag
from annotate.prompts.models import Prompt
from annotate.prompts.policies import Completion, Policy
from annotate.prompts.templates import PromptTemplate
from annotate.prompts.withdrawals import Withdrawal
from annotate.webhooks.models import Delivery, Webhook
from annotate.work.assignments import Assignment
from annotate.work.tasks import Task

__all__ = [
    "ApiToken",
    "Assignment",
    "AuditEntry",
    "Call",
    "CallPlace",
    "Cell",
    "Completion",
    "Connection",
    "Conversation",
    "Delivery",
    "Demonstration",
    "Document",
    "Embedder",
    "Feedback",
    "Grid",
    "Guideline",
    "Invitation",
    "Judge",
    "JudgeQuestion",
    "JudgeRanking",
    "JudgeRun",
    "Mail",
    "Measure",
    "Membership",
    "Message",
    "Notice",
    "Passage",
    "Opinion",
    "OwnRule",
    "Placement",
    "Policy",
    "Preference",
    "Project",
    "Prompt",
    "PromptDraft",
    "PromptFlag",
    "PromptTemplate",
    "Ranking",
    "Reply",
    "Review",
    "Share",
    "SignIn",
    "SignInLink",
    "Talk",
    "TalkPlan",
    "Task",
    "Turn",
    "TurnAnswer",
    "Upload",
    "User",
    "Webhook",
    "Withdrawal",
]
