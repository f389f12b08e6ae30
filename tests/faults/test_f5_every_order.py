"""F5: whatever people do, in whatever order, no answer is lost and no place is given twice."""

from dataclasses import dataclass
from datetime import timedelta

import hypothesis.strategies as st
import pytest
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models.functions import Now
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run

from annotate.labelling.queue import next_assignment
from annotate.labels.label import Conflict
from annotate.labels.reviews import labels_under_review
from annotate.models import (
    Assignment,
    Completion,
    Demonstration,
    Placement,
    Policy,
    Project,
    Prompt,
    Ranking,
    Review,
    Task,
)
from annotate.work.tasks import TaskQuerySet
from tests.faults.conftest import IS_LONG, sized

Kind = Task.Kind
LABELERS = 16


@dataclass
class Held:
    """What the model knows of one person's hold on one task."""

    work: Assignment
    is_live: bool = True
    state: str = "leased"
    revisions: int = 0

    @property
    def takes_place(self):
        return self.state == "submitted" or (self.state == "leased" and self.is_live)


names = st.sampled_from(["alice", "bob", "rita", "olga"])
reviewers = st.sampled_from(["rita", "olga"])
numbers = st.integers(0, 9)


class Workplace(RuleBasedStateMachine):
    """Alice, Bob, Rita and Olga at a small queue; the model says what must happen."""

    def __init__(self):
        super().__init__()
        self.transaction = transaction.atomic()
        self.transaction.__enter__()
        self.project = Project.objects.create(
            name="Small", slug="small", random_review_percent=100, new_writer_reviews=0
        )
        roles = {"alice": "labeler", "bob": "labeler", "rita": "reviewer", "olga": "operator"}
        self.people = {n: self.project.admit(name=n, role=role) for n, role in roles.items()}
        self.project.admit(name="otto", role="operator")  # or nobody might pause Olga
        self.paused = set()
        self.held = {}
        self.sent = 0
        policy = Policy.objects.create(project=self.project, name="base", origin="base")
        for number, (kind, overlap) in enumerate(
            [("write", 1), ("rank", 2), ("rank", 1), ("write", 2)]
        ):
            messages = [{"role": "user", "content": f"Q{number}"}]
            prompt = Prompt.objects.create(project=self.project, messages=messages)
            task = Task.objects.create(
                project=self.project, prompt=prompt, kind=kind, overlap=overlap
            )
            for letter in "AB" if kind == "rank" else "":
                completion = Completion.objects.create(
                    prompt=prompt, policy=policy, text=letter, source="sampled"
                )
                task.completions.add(completion)

    def teardown(self):
        transaction.set_rollback(True)
        self.transaction.__exit__(None, None, None)

    # What must come next

    def expected(self, name, kinds):
        """(task, its own lease if it has one) by the rules, or None."""
        if name in self.paused:
            return None
        live = [
            held
            for (_, who), held in self.held.items()
            if who == name and held.state == "leased" and held.is_live
        ]
        live = [held for held in live if held.work.task.kind in kinds]
        if live:
            return min(live, key=lambda held: held.work.pk).work.task_id
        labelled = {
            held.work.task.prompt_id
            for (_, who), held in self.held.items()
            if who == name and held.revisions
        }
        for task in sorted(Task.objects.filter(kind__in=kinds), key=lambda t: (t.kind, t.pk)):
            mine = self.held.get((task.pk, name))
            met = mine and (mine.state != "leased" or mine.is_live)
            others = [h for (pk, who), h in self.held.items() if pk == task.pk and who != name]
            is_full = sum(held.takes_place for held in others) >= task.overlap
            own_review = task.kind == "review" and task.prompt_id in labelled
            if not (met or is_full or own_review or task.closed_at):
                return task.pk
        return None

    def claim(self, name, only=None):
        may_review = name in ("rita", "olga")
        kinds = [k for k in ["rank", "review", "write"] if k != "review" or may_review]
        expected = self.expected(name, [k for k in kinds if only in (None, k)])
        work = next_assignment(self.people[name], self.project, only=only)
        assert (work.task_id if work else None) == expected
        if work:
            held = self.held.setdefault((work.task_id, name), Held(work))
            held.work, held.is_live, held.state = work, True, "leased"
        return work

    def choose(self, number, *states):
        """One of the holds in these states, on ordinary tasks."""
        found = [
            held
            for key, held in sorted(self.held.items())
            if held.state in states and held.work.task.kind != "review"
        ]
        return found[number % len(found)] if found else None

    def has_place(self, held):
        if held.takes_place:
            return True
        task = held.work.task
        others = [h for (pk, _), h in self.held.items() if pk == task.pk and h is not held]
        return sum(other.takes_place for other in others) < task.overlap

    def say(self, held, *, label=None, revision_no=None):
        """Sends an answer, or a change of `label`."""
        self.sent += 1
        effort = {"comment": f"sent {self.sent}"}
        if held.work.task.kind == "write":
            content = {"text": f"Answer {self.sent}"}
            kind = Demonstration
        else:
            kind = Ranking
            order = held.work.shown_order[:: -1 if self.sent % 2 else 1]
            placed = [Placement(completion_id=pk, place=n) for n, pk in enumerate(order, start=1)]
            content = {"placements": placed}
        if label is None:
            return kind.record(assignment=held.work, **content, **effort)
        return label.revise(revision_no=revision_no, **content, **effort)

    def label_of(self, held):
        return Assignment.objects.get(pk=held.work.pk).label

    # Acts

    @rule(name=names)
    def claims(self, name):
        self.claim(name)

    @rule(number=numbers)
    def submits(self, number):
        if held := self.choose(number, "leased"):
            in_time = self.has_place(held)
            label = self.say(held)
            assert label.late is not in_time
            held.state, held.revisions = "submitted", held.revisions + 1
            assert label.revision_no == held.revisions

    @rule(number=numbers)
    def submits_again(self, number):
        if held := self.choose(number, "submitted"):
            with pytest.raises(Conflict):
                self.say(held)

    @rule(number=numbers, is_stale=st.booleans())
    def edits(self, number, is_stale):
        if held := self.choose(number, "submitted"):
            label = self.label_of(held)
            if is_stale:
                with pytest.raises(Conflict):
                    self.say(held, label=label, revision_no=label.revision_no - 1)
            elif label.reviews.exists():
                with pytest.raises(ValidationError):
                    self.say(held, label=label, revision_no=label.revision_no)
            else:
                self.say(held, label=label, revision_no=label.revision_no)
                held.revisions += 1

    @rule(number=numbers)
    def undoes(self, number):
        if held := self.choose(number, "submitted"):
            label = self.label_of(held)
            if label.reviews.exists():
                with pytest.raises(ValidationError):
                    label.retract(draft={})
            else:
                self.take_back(held)
                label.retract(draft={})
                held.revisions += 1

    def take_back(self, held):
        held.state = "answering anew"
        held.is_live = self.has_place(held)
        held.state = "leased"

    @rule(number=numbers)
    def skips(self, number):
        if held := self.choose(number, "leased", "submitted"):
            assert held.work.skip(reason="other") is (held.state == "leased")
            if held.state == "leased":
                held.state = "skipped"

    @rule(number=numbers)
    def expires(self, number):
        if held := self.choose(number, "leased"):
            past = Now() - timedelta(seconds=1)
            Assignment.objects.filter(pk=held.work.pk).update(leased_until=past)
            held.is_live = False

    @rule(name=reviewers, verdict=st.sampled_from(Review.Verdict.values))
    def reviews(self, name, verdict):
        work = self.claim(name, only="review")
        if work is None:
            return
        labels = labels_under_review(work.task)
        said = {label.pk: verdict for label in labels}
        Review.record(assignment=work, verdicts=said, cause="labeler_error", comment="Anew.")
        self.held[work.task_id, name].state = "submitted"
        if verdict == "sent_back":
            for label in labels:
                self.take_back(self.held[label.assignment.task_id, label.labeler.username])

    @rule(name=names)
    def is_revoked(self, name):
        self.project.memberships.get(user=self.people[name]).pause()
        self.paused.add(name)

    @precondition(lambda self: self.paused)
    @rule()
    def are_let_in_again(self):
        for name in self.paused:
            self.project.memberships.get(user=self.people[name]).resume()
        self.paused.clear()

    # What always holds

    @invariant()
    def no_place_too_many(self):
        for task in Task.objects.exclude(kind="review"):
            labels = [Demonstration, Ranking][task.kind == "rank"].objects.current().of_task(task)
            in_time = labels.filter(late=False, assignment__state="submitted")
            assert in_time.count() <= task.overlap
            live = Assignment.objects.filter(task=task).leased().count()
            assert in_time.count() + live <= task.overlap

    @invariant()
    def a_task_is_closed_when_its_answers_are_in(self):
        for task in Task.objects.all():
            answers = task.assignments.submitted().count()
            assert (task.closed_at is not None) == (answers >= task.overlap)

    @invariant()
    def no_answer_is_lost(self):
        for held in self.held.values():
            if held.work.task.kind != "review":
                kind = [Demonstration, Ranking][held.work.task.kind == "rank"]
                revisions = kind.objects.filter(assignment=held.work)
                assert revisions.count() == held.revisions
                assert revisions.newest().count() == min(held.revisions, 1)

    @invariant()
    def what_is_to_be_reviewed_waits_for_a_reviewer(self):
        for task in Task.objects.closed().exclude(kind="review"):
            labels = [Demonstration, Ranking][task.kind == "rank"].objects.of_task(task)
            if labels.current().unreviewed().exists():
                assert task.reviews.open().count() == 1

    @invariant()
    def what_nobody_has_opened_has_something_to_review(self):
        for review in Task.objects.open().filter(kind="review", assignments=None):
            assert labels_under_review(review) and review.subject.closed_at


def play(runs, **how):
    run(
        Workplace,
        settings=settings(
            max_examples=runs,
            stateful_step_count=30,
            deadline=None,
            database=None,
            derandomize=not IS_LONG,
            suppress_health_check=list(HealthCheck),
            **how,
        ),
    )


@pytest.mark.django_db
def test_no_order_of_acts_breaks_the_workplace(report):
    runs = sized(short=12, long=500)
    report(runs=runs, steps_at_most=30)
    play(runs)


@pytest.mark.django_db
def test_a_queue_that_counts_no_places_is_found_out(monkeypatch, settings):
    monkeypatch.setattr(TaskQuerySet, "with_a_place_for", lambda tasks, labeler: tasks)
    settings.PREPARED_QUERIES = False  # those that were compiled before would still count
    with pytest.raises(AssertionError):
        play(12, phases=[Phase.generate])


@pytest.mark.skipif(not IS_LONG, reason="it takes many runs to undo what is under review")
@pytest.mark.django_db
def test_a_review_that_outlives_its_answers_is_found_out(monkeypatch):
    monkeypatch.setattr(Task, "withdraw_review", lambda task: None)
    with pytest.raises(AssertionError):
        play(60, phases=[Phase.generate])
