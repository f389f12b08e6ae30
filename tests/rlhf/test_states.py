import threading
from contextlib import suppress
from datetime import datetime, timedelta

import pytest
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from annotate.models import Project
from rlhf.models import Metric, Round, Run
from rlhf.models.leases import claim
from rlhf.rounds.report import report_on

State = Run.State
FROM_A_WORKER = {State.RUNNING}

# verb → the states it may come from, and where it leads
MOVES = {
    "resume": ({State.PAUSED, State.FAILED, State.CANCELLED}, State.QUEUED),
    "request_cancel": ({State.QUEUED, State.PAUSED}, State.CANCELLED),
    "succeed": (FROM_A_WORKER, State.SUCCEEDED),
    "fail": (FROM_A_WORKER, State.FAILED),
    "cancel": (FROM_A_WORKER, State.CANCELLED),
    "pause": (FROM_A_WORKER, State.PAUSED),
    "release": (FROM_A_WORKER, State.QUEUED),
    "retry": (FROM_A_WORKER, State.QUEUED),
}
ARGUMENTS = {
    "succeed": {"summary": {}},
    "fail": {"reason": "because"},
    "pause": {"reason": "because"},
    "retry": {"why": "because", "changes": {"batch_size": 1}},
}
WORKERS_VERBS = ("succeed", "fail", "cancel", "pause", "release", "retry")


def run_in(project: Project, state: str) -> Run:
    return Run.objects.create(
        project=project, kind=Run.Kind.SFT, state=state, lease_token=3, config={"train": {}}
    )


def move(run: Run, verb: str, token: int = 3) -> bool:
    arguments = dict(ARGUMENTS.get(verb, {}))
    if verb in WORKERS_VERBS:
        arguments["token"] = token
    return getattr(run, verb)(**arguments)


@pytest.mark.parametrize("verb", MOVES)
@pytest.mark.parametrize("state", State.values)
def test_a_verb_moves_a_run_from_its_own_states_only(project, verb, state):
    come_from, to = MOVES[verb]
    run = run_in(project, state)
    asked_only = verb == "request_cancel" and state == State.RUNNING
    assert move(run, verb) == (state in come_from or asked_only)
    run.refresh_from_db()
    assert run.state == (to if state in come_from else state)
    assert run.cancel_requested == asked_only
    assert (run.ended_at is not None) == (state in come_from and to in Run.ENDED)


@pytest.mark.parametrize("verb", WORKERS_VERBS)
def test_a_worker_moves_a_run_under_its_own_lease_only(project, verb):
    run = run_in(project, State.RUNNING)
    assert not move(run, verb, token=2)
    run.refresh_from_db()
    assert run.state == State.RUNNING


@pytest.mark.parametrize("verb", MOVES)
def test_of_two_who_move_a_run_the_slower_gets_false(project, verb):
    come_from, to = MOVES[verb]
    slow = run_in(project, next(iter(come_from)))
    fast = Run.objects.get(pk=slow.pk)
    assert move(fast, verb)
    assert not move(slow, verb)


@pytest.mark.django_db(transaction=True)
def test_a_cancel_is_not_lost_on_a_worker_that_leaves_meanwhile(project, monkeypatch):
    run, move = run_in(project, State.RUNNING), Run._move

    def leave() -> None:
        with suppress(OperationalError), transaction.atomic():  # it has to wait for its turn
            Run.objects.select_for_update(nowait=True).get(pk=run.pk)
            Run.objects.filter(pk=run.pk).update(state=State.QUEUED)
        connection.close()

    def move_while_it_leaves(self: Run, **how: object) -> bool:
        moved = move(self, **how)
        worker = threading.Thread(target=leave)
        worker.start()
        worker.join()
        return moved

    monkeypatch.setattr(Run, "_move", move_while_it_leaves)
    assert run.request_cancel()
    run.refresh_from_db()
    assert run.cancel_requested or run.state == State.CANCELLED


def test_resume_forgets_how_it_ended(project):
    run = run_in(project, State.RUNNING)
    run.fail(token=3, reason="quarantined", log_tail="boom")
    Run.objects.update(attempts_without_progress=4, cancel_requested=True)
    assert run.resume()
    assert (run.reason, run.log_tail, run.ended_at) == ("", "", None)
    assert (run.attempts_without_progress, run.cancel_requested) == (0, False)


@pytest.mark.parametrize("state", State.values)
def test_every_pair_of_states_is_a_move_of_a_verb_or_impossible(project, state):
    """No verb leads anywhere but where the table says: all pairs, not only the wanted ones."""
    reached = set()
    for verb in MOVES:
        run = run_in(project, state)
        if move(run, verb):
            run.refresh_from_db()
            reached.add(run.state)
    wanted = {to for come_from, to in MOVES.values() if state in come_from}
    assert reached - {state} == wanted - {state}


@pytest.mark.parametrize("state", State.values)
def test_only_a_waiting_run_is_put_first(project, state):
    run = run_in(project, state)
    assert run.prioritise(5) == (state == State.QUEUED)
    assert not run.prioritise(5), "twice"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("verb", "state"),
    [("request_cancel", State.QUEUED), ("resume", State.FAILED)],
)
def test_of_many_who_press_a_button_at_once_one_moves_the_run(project, verb, state):
    run = run_in(project, state)
    start, moved = threading.Barrier(6), []

    def press() -> None:
        mine = Run.objects.get(pk=run.pk)
        start.wait()
        moved.append(getattr(mine, verb)())
        connection.close()

    operators = [threading.Thread(target=press) for _ in range(6)]
    for operator in operators:
        operator.start()
    for operator in operators:
        operator.join(120)
    assert sorted(moved) == [False] * 5 + [True]


def test_a_round_that_ended_early_is_under_way_only_once_it_is_resumed(round):
    def is_under_way() -> bool:
        return Round.objects.under_way().filter(pk=round.pk).exists()

    first = round.runs.get(position=0)
    assert is_under_way()
    for state, is_so in ((State.RUNNING, True), (State.PAUSED, True), (State.FAILED, False),
                         (State.QUEUED, True), (State.CANCELLED, False)):  # fmt: skip
        round.runs.filter(pk=first.pk).update(state=state)
        assert is_under_way() == is_so, state
    round.runs.update(state=State.SUCCEEDED)
    assert not is_under_way()


def ago(**time: float) -> datetime:
    return timezone.now() - timedelta(**time)


def test_the_time_of_a_run_is_that_of_its_attempts_without_the_waiting(round):
    lease = claim()
    mine = Run.objects.filter(pk=lease.run.pk)
    mine.update(started_at=ago(days=2), taken_at=ago(seconds=100))
    assert lease.run.pause(token=lease.token, reason="kl limit")
    assert mine.get().seconds == pytest.approx(100, abs=5)
    assert mine.get().resume()
    assert mine.get().seconds == pytest.approx(100, abs=5)
    assert claim()
    mine.update(taken_at=ago(seconds=50), leased_until=ago(seconds=10))
    assert mine.get().seconds == pytest.approx(150, abs=5)
    assert claim()  # its worker had died
    assert mine.get().seconds == pytest.approx(140, abs=5)


def test_the_time_left_follows_the_pace_of_the_present_attempt(round):
    lease = claim()
    mine = Run.objects.filter(pk=lease.run.pk)
    mine.update(step=30, total_steps=100, taken_at=ago(seconds=300))
    told = {"run": lease.run, "lease_token": lease.token, "split": "train", "values": {}}

    def step(number: int, **time: float) -> None:
        Metric.objects.create(**told, step=number, time=ago(**time))

    step(9, days=1)
    step(10, seconds=200)
    assert report_on(round).seconds_left is None, "one step says nothing"
    step(20, seconds=100)
    step(30, seconds=0)
    assert report_on(round).seconds_left == pytest.approx(700, abs=5)
    lease.run.pause(token=lease.token, reason="kl limit")
    assert report_on(Round.objects.get(pk=round.pk)).seconds_left is None
