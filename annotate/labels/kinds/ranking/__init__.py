"""How completions compare, as one person sees it: the kind, as the registry knows it.

`answer` holds its model and the forms of its page, `review` what a reviewer sees and decides,
`tasks` how rankings are asked for."""

from __future__ import annotations

from annotate.labels.forms import WorkForm
from annotate.labels.kinds.kind import LabelKind, Words
from annotate.labels.kinds.ranking.answer import PairForm, RankForm, Ranking
from annotate.labels.kinds.ranking.review import RankingReviewForm
from annotate.labels.kinds.ranking.tasks import open_rank_tasks
from annotate.people.models import Project
from annotate.prompts.models import PromptQuerySet
from annotate.prompts.policies import CompletionQuerySet
from annotate.work.assignments import Assignment
from annotate.work.tasks import Task


class RankingKind(LabelKind):
    task = Task.Kind.RANK
    model = Ranking
    template = "annotate/rank.html"
    review_form = RankingReviewForm
    review_template = "annotate/review_ranking.html"
    compares = True
    words = Words(
        one="ranking",
        many="rankings",
        done="ranked",
        doing="ranking",
        to_do="Rank answers",
        to_do_detail="Say which answers are better.",
        ask="Ask for rankings",
        icon="list",
        lacking="none of these prompts has two different completions that were not opened today",
    )

    def form_class(self, assignment: Assignment) -> type[WorkForm]:
        return PairForm if len(assignment.shown_order) == 2 else RankForm

    def open_tasks(
        self,
        project: Project,
        prompts: PromptQuerySet,
        batch: str,
        among: CompletionQuerySet | None = None,
    ) -> int:
        size, overlap = project.ranking_size, project.overlap
        return open_rank_tasks(project, prompts, size, overlap, batch, among)
