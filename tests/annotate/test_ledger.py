"""Every call to a model is written down once, with what it cost when it was made."""

from contextlib import aclosing
from decimal import Decimal

import pytest
from asgiref.sync import async_to_sync
from django.db import connection

from annotate.chat import inference, streaming
from annotate.costs.uses import Use
from annotate.models import Call, Connection, Conversation, Policy
from annotate.playground.asking import ask_for_a_while, listen
from annotate.playground.grids import Column, Grid

pytestmark = pytest.mark.django_db(transaction=True)

ASKED = [{"role": "user", "content": "How do I boil an egg?"}]
USAGE = {"prompt_tokens": 2000, "completion_tokens": 500}


@pytest.fixture
def paid(project, model_server, settings):
    """A policy behind a connection that costs 3 for a million tokens read, and 15 for those
    written."""
    settings.INFERENCE_ENDPOINTS = (model_server.url,)
    place = Connection.objects.create(
        project=project, name="Cooks", base_url=model_server.url, price_in=3, price_out=15
    )
    said = {"project": project, "origin": Policy.Origin.PROMPTED, "model_name": "cook-1"}
    return Policy.objects.create(name="cook", connection=place, **said)


def hear(policy, *, pieces=None, **more):
    """Streams an answer; leaves after so many pieces."""

    async def listen():
        async with aclosing(inference.stream(policy, ASKED, **more)) as coming:
            left = pieces
            async for _ in coming:
                if left is not None and (left := left - 1) == 0:
                    return

    async_to_sync(listen)()


def test_a_whole_answer_costs_its_tokens_at_the_price_of_that_moment(paid, model_server):
    model_server.usage = USAGE
    inference.complete(paid, ASKED, use=Use.SAMPLING, run=7)
    call = Call.objects.get()
    assert (call.project, call.policy, call.use, call.run) == (paid.project, paid, "sampling", 7)
    assert (call.outcome, call.tokens_in, call.tokens_out) == ("answered", 2000, 500)
    assert call.price == Decimal("0.0135")  # (2000 × 3 + 500 × 15) / 1,000,000
    assert call.total_ms is not None
    Connection.objects.update(price_in=300, price_out=1500)
    call.refresh_from_db()
    assert call.price == Decimal("0.0135")


def test_a_streamed_answer_says_when_its_first_words_came(paid, model_server):
    model_server.usage, model_server.seconds_between = USAGE, 0.02
    hear(paid, use=Use.GRID)
    call = Call.objects.get()
    assert (call.use, call.outcome, call.price) == ("grid", "answered", Decimal("0.0135"))
    assert 0 <= call.first_ms < call.total_ms


@pytest.mark.parametrize(
    ("server", "outcome"),
    [
        ({"status": 400}, "failed"),
        ({"breaks_after": 1}, "failed"),
        ({"raw": [b"data: nonsense\n\n"]}, "failed"),
    ],
)
def test_a_failure_is_counted_and_of_no_known_price(paid, model_server, server, outcome):
    for name, value in server.items():
        setattr(model_server, name, value)
    with pytest.raises(inference.InferenceError):
        hear(paid)
    call = Call.objects.get()
    assert (call.outcome, call.price, call.tokens_in) == (outcome, None, None)


def test_who_leaves_in_the_middle_has_stopped_it(paid, model_server):
    hear(paid, pieces=2)
    assert Call.objects.get().outcome == "stopped"


def test_an_answer_of_our_own_machine_costs_the_time_it_took(project, model_server, settings):
    settings.INFERENCE_URL = model_server.url
    project.machine_price = Decimal("3.60")
    project.save()
    own = Policy.objects.create(project=project, name="own", origin="base", model_name="own")
    inference.complete(own, ASKED)
    call = Call.objects.get()
    assert call.price == Decimal(call.total_ms) / 1_000_000  # 3.60 an hour is 0.001 a second


@pytest.mark.parametrize("unknown", ["price_in", "price_out", "usage"])
def test_what_is_not_known_costs_nobody_knows_what(paid, model_server, unknown):
    model_server.usage = None if unknown == "usage" else USAGE
    if unknown != "usage":
        Connection.objects.update(**{unknown: None})
    inference.complete(Policy.objects.get(), ASKED)
    assert Call.objects.get().price is None


def test_a_policy_of_no_project_is_written_down_nowhere(model_server, settings):
    settings.INFERENCE_URL = model_server.url
    inference.complete(Policy(name="nobody's", model_name="x"), ASKED)
    assert not Call.objects.exists()


@pytest.mark.parametrize(("via_api", "use"), [(False, "chat"), (True, "gateway")])
def test_the_chat_and_the_api_are_told_apart(paid, model_server, gus, via_api, use):
    model_server.usage = USAGE
    chat = Conversation.objects.create(project=paid.project, guest=gus, via_api=via_api)
    question = chat.messages.create(role="user", text="How?")
    answer = chat.messages.create(
        role="assistant", answers=question, policy=paid, context=ASKED, state="streaming"
    )
    async_to_sync(streaming.write_whole)(answer)
    call = Call.objects.get()
    assert (call.use, call.outcome, call.policy) == (use, "answered", paid)


def test_each_answer_of_a_grid_is_a_call_of_its_policy_or_of_words_not_saved(
    paid, model_server, olga
):
    model_server.usage = USAGE
    grid = Grid.lay_out(
        project=paid.project,
        author=olga,
        prompts=["Eggs?"],
        columns=[Column(weights=paid.pk), Column(weights=paid.pk, system_prompt="Be brief.")],
    )
    assert ask_for_a_while(grid) == 2
    calls = Call.objects.all()
    assert {(each.use, each.policy) for each in calls} == {("grid", paid), ("grid", None)}
    assert sum(each.price for each in calls) == sum(each.price for each in grid.cells.all())


def test_what_a_judge_is_asked_is_told_apart(paid, model_server):
    listen(paid, ASKED, seed=0, use=Use.JUDGE)
    assert Call.objects.get().use == "judge"


def test_the_ledger_has_no_words_and_no_person():
    with connection.cursor() as cursor:
        columns = connection.introspection.get_table_description(cursor, Call._meta.db_table)
    assert {each.name for each in columns} == {
        *("id", "project_id", "policy_id", "use", "outcome", "at", "run"),
        *("tokens_in", "tokens_out", "first_ms", "total_ms", "price"),
    }
