"""Talks with two policies that nobody names, turn by turn: the kind, as the registry knows it.

`turns` holds what is said while it is said, `answer` the label a talk ends with and the form of its
page, `review` what a reviewer decides, `tasks` how talks are asked for."""

from __future__ import annotations

from annotate.labels.forms import WorkForm
from annotate.labels.kinds.kind import LabelKind, Words
from annotate.labels.kinds.talk.answer import Talk, TalkForm
from annotate.labels.kinds.talk.review import TalkReviewForm
from annotate.work.assignments import Assignment
from annotate.work.tasks import Task


class TalkKind(LabelKind):
    task = Task.Kind.TALK
    model = Talk
    template = "annotate/talk.html"
    review_form = TalkReviewForm
    review_template = "annotate/review_talk.html"
    is_about_prompts = False
    words = Words(
        one="talk",
        many="talks",
        done="talked over",
        doing="talking",
        to_do="Talk with the models",
        to_do_detail="Write a message, pick the better of two answers, and continue.",
        ask="Ask for talks",
        icon="message-circle",
        lacking="talks are asked for on a page of their own",
    )

    def form_class(self, assignment: Assignment) -> type[WorkForm]:
        return TalkForm
