"""The talk as a label: with it, each of its turns becomes a ranking, and each edit an edit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Unpack

from django import forms
from django.core.exceptions import ValidationError
from django.utils.functional import cached_property

from annotate.labels.forms import Text, WorkForm
from annotate.labels.kinds.edit import Edit
from annotate.labels.kinds.ranking.answer import PairForm, Ranking
from annotate.labels.kinds.talk.turns import TalkPlan, Turn, asked_in, places_in, turns_of
from annotate.labels.label import LONGEST_ANSWER, Effort, Label
from annotate.people.models import Project
from annotate.prompts.models import LONGEST_PROMPT, Prompt, prompt_key
from annotate.prompts.policies import Completion
from annotate.work.assignments import Assignment
from annotate.work.tasks import Task

SOURCE = "talk"
NOTHING_SAID = "Say something and choose an answer first, or skip the task."


class Talk(Label):
    """That a talk has ended. What was said and chosen is in the turns of its assignment.

    Each turn is a ranking of its own, on the talk up to there: a label in no task that stands and
    falls with this one."""

    template = "annotate/_talk.html"
    why_fixed = "after the seconds for undo, a talk stays as it is."

    class Meta(Label.Meta):
        abstract = False

    def __str__(self) -> str:
        return f"talk {self.pk}"

    @property
    def content(self) -> dict[str, Any]:
        said = [(turn.pk, turn.choice, turn.edited) for turn in self.turns]
        return {**super().content, "turns": said}

    @property
    def turns(self) -> list[Turn]:
        """Those that were chosen in, in their order."""
        turns = turns_of(self.assignment) if self.assignment else []
        return [turn for turn in turns if turn.choice]

    @property
    def in_short(self) -> str:
        turns = self.turns
        said = turns[0].said if turns else ""
        return f"{len(turns)} turn{'' if len(turns) == 1 else 's'}: {said}"

    @property
    def parts(self) -> list[Label]:
        found = [part for turn in self.turns for part in (turn.ranking, turn.edit)]
        return [part for part in found if part and not part.retracted]

    @property
    def is_editable(self) -> bool:
        return False

    @property
    def snapshots(self) -> Any:
        """The frozen sets that one of its turns is in."""
        relation: Any = Ranking._meta.get_field("snapshots")
        rankings = [turn.ranking_id for turn in self.turns]
        sets = relation.related_model._default_manager
        return sets.filter(**{f"{relation.field.name}__in": rankings}).distinct()

    def doubts(self, project: Project) -> Iterator[str]:
        if project.review_flags and any(turn.choice == Turn.BOTH_BAD for turn in self.turns):
            yield Task.Doubt.ALL_BAD

    @classmethod
    def record(cls, *, assignment: Assignment, **effort: Unpack[Effort]) -> Talk:
        """Ends a talk, once. Raises ValidationError where it is too short to end."""
        talk = cls(assignment=assignment, **effort)
        turns, length = talk.turns, TalkPlan.of(assignment.task).length
        if not turns:
            raise ValidationError(NOTHING_SAID)
        if len(turns) < length:
            left = length - len(turns)
            raise ValidationError(f"This talk has {length} turns; {left} of them are left.")
        return talk.record_as_answer(assignment)

    def _insert(self, assignment: Assignment, *, after: Any) -> None:
        super()._insert(assignment, after=after)
        turns = [] if self.retracted else self.turns
        for turn in turns:
            self._become_data(turn, turns)
        for turn in assignment.turns.exclude(pk__in=[turn.pk for turn in turns]):
            _take_back(turn)

    def _become_data(self, turn: Turn, turns: list[Turn]) -> None:
        prompt = turn.prompt or _prompt_of(turn, turns)
        turn.prompt = prompt
        for answer in turn.pair:
            answer.completion = answer.completion or prompt.completions.create(
                policy=answer.policy,
                text=answer.text,
                source=Completion.Source.CHAT,
                sampling=answer.sampling,
                template_hash=answer.policy.template_hash,
                passages=answer.passages,
                finish_reason=answer.finish_reason,
            )
            answer.save(update_fields=["completion"])
        if turn.choice != Turn.SAME:
            turn.ranking = self._add(_ranking_of(turn), turn.ranking, prompt)
        if turn.edited:
            original = turn.better.completion
            turn.edit = self._add(Edit(original=original, text=turn.edited), turn.edit, prompt)
        else:
            _retract(turn.edit)
        turn.save(update_fields=["prompt", "ranking", "edit"])

    def _add(self, part: Any, before: Any, prompt: Prompt) -> Any:
        part.prompt, part.labeler_id, part.source = prompt, self.labeler_id, SOURCE
        part.guideline_version = self.guideline_version
        return part.add_revision(after=before)


def _ranking_of(turn: Turn) -> Ranking:
    shown = [answer.completion_id for answer in turn.pair if answer.completion_id]
    ranking = Ranking.of_places(
        shown, places_in(turn), strength=turn.strength, outcome=turn.outcome
    )
    ranking.letter_order = shown
    return ranking


def _prompt_of(turn: Turn, turns: list[Turn]) -> Prompt:
    """The talk up to what was said in a turn, as a prompt. All of a talk is in the split of its
    first message, so that nothing is trained on that continues what was held out."""
    work, first = turn.assignment, turns[0].prompt
    messages = asked_in(turns, turn)
    prompt, _ = Prompt.objects.get_or_create(
        project=work.task.project,
        content_hash=prompt_key(messages),
        defaults={
            "messages": messages,
            "kind": Prompt.Kind.TALK,
            "author": work.labeler,
            "source": SOURCE,
            "tags": TalkPlan.of(work.task).tags,
            "split_key": (first.split_key or prompt_key(first.messages)) if first else "",
        },
    )
    return prompt


def _take_back(turn: Turn) -> None:
    """What a turn taught is no data any more."""
    for name in ("ranking", "edit"):
        if taken := _retract(getattr(turn, name)):
            setattr(turn, name, taken)
            turn.save(update_fields=[name])


def _retract(part: Any) -> Any:
    if part is None or part.retracted:
        return None
    taken = part._copy()
    taken.prompt, taken.labeler = part.prompt, part.labeler
    taken.guideline_version, taken.retracted = part.guideline_version, True
    return taken.add_revision(after=part)


class TalkForm(WorkForm):
    """The whole page is one form: what is being said, which answer is better, how it should read.
    Its buttons lead to what is done with it; sent as it is, it ends the talk."""

    said = Text(rows=3, required=False, max_length=LONGEST_PROMPT, label="Your message")
    edited = Text(rows=8, required=False, max_length=LONGEST_ANSWER, label="The answer, corrected")
    choice = forms.CharField(required=False, max_length=4, label="Which is better?")
    outcome = forms.CharField(required=False)
    NOT_IN_A_DRAFT = WorkForm.NOT_IN_A_DRAFT | {"outcome", "choice"}

    def __init__(self, assignment: Assignment, *args: Any, **options: Any) -> None:
        super().__init__(assignment, *args, **options)
        if self.last and self.last.choice:
            self.initial.setdefault("edited", self.last.going_on)

    @cached_property
    def plan(self) -> TalkPlan:
        return TalkPlan.of(self.assignment.task)

    @cached_property
    def turns(self) -> list[Turn]:
        return turns_of(self.assignment)

    @property
    def last(self) -> Turn | None:
        return self.turns[-1] if self.turns else None

    @property
    def open_turn(self) -> Turn | None:
        """The turn whose answers are being written or judged."""
        return self.last if self.last and not self.last.choice else None

    @property
    def ended_turns(self) -> list[Turn]:
        return [turn for turn in self.turns if turn.choice]

    @property
    def next_number(self) -> int:
        return len(self.turns) + 1

    @property
    def may_say(self) -> bool:
        is_long_enough = self.plan.length and len(self.turns) >= self.plan.length
        return not self.open_turn and not is_long_enough

    @property
    def may_end(self) -> bool:
        return bool(self.ended_turns) and len(self.ended_turns) >= self.plan.length

    @property
    def scale(self) -> list[tuple[str, str, str]]:
        """(value, label, key) of each point of the scale, from the left to the right."""
        marks = [(f"a{n}", f"A {words}", str(5 - n)) for n, words in PairForm.STRENGTHS]
        other = [(f"b{n}", f"B {words}", str(4 + n)) for n, words in PairForm.STRENGTHS[::-1]]
        return [*marks, PairForm.TIE, *other]

    @staticmethod
    def initial_of(label: Any) -> dict[str, Any]:
        return {"comment": label.comment}
