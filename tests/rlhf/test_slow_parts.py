"""What a page waits for is bounded: by no dead Redis, and not by how many policies there are."""

import socket
import time
from collections.abc import Iterator

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotate.models import Policy
from feedback_site import bell
from rlhf.models import Evaluation, Round, Run
from rlhf.registry.judgements import PAIRS_SHOWN

LOST_AT_MOST = 0.6  # seconds
POLICIES = 400


@pytest.fixture(params=["refused", "no socket", "no such host", "silent"])
def dead_redis(request) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield {
            "refused": "redis://127.0.0.1:1/0",
            "no socket": "unix:///nowhere/redis.sock",
            "no such host": "redis://redis.invalid:6379/0",
            "silent": f"redis://127.0.0.1:{silent.getsockname()[1]}/0",
        }[request.param]
    bell.connection.cache_clear()


@pytest.mark.django_db(transaction=True)
def test_a_round_is_launched_without_redis_about_as_fast_as_with_it(
    project, labels, base, browse, olga, dead_redis, settings
):
    client = browse(olga)
    client.get("/p/cooking/rounds/new/")  # the first request of a process loads its templates
    data = {"base": base.pk, "recipe": "tiny", "stages": ["sft", "reward", "ppo"]}

    def best_of_three() -> float:
        times = []
        for _ in range(3):
            began = time.monotonic()
            assert client.post("/p/cooking/rounds/new/", data).status_code == 302
            times.append(time.monotonic() - began)
        return min(times)

    with_redis = best_of_three()
    settings.REDIS_URL = dead_redis
    bell.connection.cache_clear()
    without = best_of_three()
    assert {round.runs.first().state for round in Round.objects.all()} == {Run.State.QUEUED}
    assert without < with_redis + LOST_AT_MOST


@pytest.fixture
def many_policies(project, base) -> list[Policy]:
    """Each judged against the one it came from and the live one."""
    base.go_live()
    run = Run.objects.create(project=project, kind=Run.Kind.EVALUATE, config={})
    made = [base]
    for number in range(POLICIES):
        parent = made[-1] if number % 3 else base
        made.append(Policy(project=project, name=f"r{number}-ppo", origin="trained", parent=parent))
        made[-1].save()
    Evaluation.objects.bulk_create(
        Evaluation(
            run=run, policy=each, opponent=rival, judge=judge,
            wins=6, losses=4, ties=0, win_rate=rate, low=0.4, high=0.8,
        )
        for each in made[1:]
        for rival in {each.parent, base}
        for judge, rate in (("reward_model", 0.1), ("reward_model", 0.6), ("gold", 0.9))
    )  # fmt: skip
    return made


def test_the_page_of_the_evaluation_asks_as_much_for_400_policies_as_for_few(
    project, many_policies, browse, olga
):
    client = browse(olga)
    client.get("/p/cooking/evaluation/")
    with CaptureQueriesContext(connection) as asked:
        page = client.get("/p/cooking/evaluation/")
    pages = page.context["page"].paginator
    pairs = sum(len({each.parent, many_policies[0]}) for each in many_policies[1:])
    assert pages.count == pairs and len(page.context["verdicts"]) == PAIRS_SHOWN
    judged = [
        (each.policy.pk, each.opponent.pk)
        for number in pages.page_range
        for each in client.get(f"/p/cooking/evaluation/?page={number}").context["verdicts"]
    ]
    assert len({*judged}) == len(judged) == pairs
    assert {each.reward_model.win_rate for each in page.context["verdicts"]} == {0.6}  # the newest
    assert len(asked) < 30


def test_400_policies_are_listed_by_pages_the_live_one_first(project, many_policies, browse, olga):
    client = browse(olga)
    client.get("/p/cooking/policies/")
    with CaptureQueriesContext(connection) as asked:
        page = client.get("/p/cooking/policies/")
    assert len(asked) < 40 and len(page.content) < 200_000
    pages = page.context["page"].paginator
    listed = [
        policy.name
        for number in pages.page_range
        for policy, _ in client.get(f"/p/cooking/policies/?page={number}").context["page"]
    ]
    assert listed[0] == "base" and listed[1:] == [f"r{n}-ppo" for n in reversed(range(POLICIES))]


def test_a_decision_that_is_refused_is_told_on_the_page_that_holds_its_policy(
    project, many_policies, browse, olga
):
    oldest = many_policies[1]
    page = browse(olga).post(f"/p/cooking/policies/{oldest.pk}/reject/", {"reason": ""})
    assert page.status_code == 422
    assert oldest in [policy for policy, _ in page.context["page"]]
