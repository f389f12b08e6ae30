"""Workers that ask a judge, killed in the middle."""

from collections import Counter

import pytest

from annotate.models import Judge
from tests.faults.conftest import sized
from tests.rlhf.conftest import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_killed_worker_loses_no_question_and_none_is_asked_twice(
    project, olga, live, model_server, rank_task, hire
):
    """Each prompt is another, so that the server knows who asks it again."""
    count = sized(short=25, long=200)
    for _ in range(count):
        rank_task(3)
    judge = Judge.objects.create(
        project=project, name="strict", policy=live, rubric="Be kind.", author=olga
    )
    judge.start(scope="open", budget=count, by=olga)
    model_server.says_to = lambda request: "Verdict: A"
    worker = hire("label", INFERENCE_URL=model_server.url)
    wait_for(lambda: judge.questions.answered().count() >= count, 240)
    worker.kill()
    worker.wait()
    assert judge.questions.waiting().exists(), "it must be killed in the middle"
    hire("label", INFERENCE_URL=model_server.url)
    wait_for(lambda: not judge.questions.waiting().exists(), 240)
    wait_for(lambda: not judge.questions.unfinished().exists(), 240)
    said = (each["messages"][1]["content"].splitlines() for each in model_server.asked)
    asked = Counter(tuple(line for line in lines if not line.startswith("<")) for lines in said)
    assert set(asked.values()) == {1}
    states = judge.questions.counts()
    assert set(states) <= {"answered", "interrupted"}
    assert states.get("interrupted", 0) <= 2, "as many as are asked at once"
    judge.ask_again()
    wait_for(lambda: judge.rankings.complete().count() == count, 240)
