import pytest

from annotate.models import Project
from rlhf.models import Run

State = Run.State
FROM_A_WORKER = {State.RUNNING}

# verb → the states it may come from, and where it leads
MOVES = {
    "enqueue": ({State.DRAFT}, State.QUEUED),
    "resume": ({State.PAUSED, State.FAILED, State.CANCELLED}, State.QUEUED),
    "request_cancel": ({State.DRAFT, State.QUEUED, State.PAUSED}, State.CANCELLED),
    "succeed": (FROM_A_WORKER, State.SUCCEEDED),
    "fail": (FROM_A_WORKER, State.FAILED),
    "cancel": (FROM_A_WORKER, State.CANCELLED),
    "pause": (FROM_A_WORKER, State.PAUSED),
    "release": (FROM_A_WORKER, State.QUEUED),
}
ARGUMENTS = {
    "succeed": {"summary": {}},
    "fail": {"reason": "because"},
    "pause": {"reason": "because"},
}
WORKERS_VERBS = ("succeed", "fail", "cancel", "pause", "release")


def run_in(project: Project, state: str) -> Run:
    return Run.objects.create(project=project, kind=Run.Kind.SFT, state=state, lease_token=3)


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


def test_resume_forgets_how_it_ended(project):
    run = run_in(project, State.RUNNING)
    run.fail(token=3, reason="quarantined", log_tail="boom")
    Run.objects.update(attempts_without_progress=4, cancel_requested=True)
    assert run.resume()
    assert (run.reason, run.log_tail, run.ended_at) == ("", "", None)
    assert (run.attempts_without_progress, run.cancel_requested) == (0, False)
