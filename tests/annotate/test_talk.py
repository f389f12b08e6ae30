"""The kind “talk”: a labeler talks with two policies, and every turn is a ranking."""

import io
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ValidationError
from django.test import Client
from django.utils import timezone

from annotate.chat import inference, streaming
from annotate.erasure import erase
from annotate.exchange.exports import exporting
from annotate.labelling.queue import next_assignment
from annotate.labels.kinds.edit import Edit
from annotate.labels.kinds.talk import turns
from annotate.labels.kinds.talk.answer import Talk
from annotate.labels.kinds.talk.tasks import open_talks
from annotate.labels.kinds.talk.turns import TalkPlan, Turn, TurnAnswer
from annotate.models import Assignment, Policy, Project, Prompt, Ranking, Review, Task, User
from annotate.prompts.models import GOAL, prompt_key
from annotate.prompts.withdrawals import Withdrawal
from rlhf.data import selection
from rlhf.data.snapshot import pseudonym
from rlhf.stages import TRAININGS
from tests.model_server import ModelServer

Browse = Callable[[User], Client]
KEY = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
def cook(live: Policy) -> Policy:
    return live


@pytest.fixture
def baker(cook: Policy) -> Policy:
    return Policy.objects.create(
        project=cook.project, name="baker", origin=Policy.Origin.PROMPTED, model_name="baker-1"
    )


@pytest.fixture
def speaking(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Both policies answer with their name and how much they were told: never the same text. A
    policy named here fails."""
    told: dict[str, Any] = {"fails": set(), "asked": []}

    async def stream(policy: Policy, messages: list, **sampling: Any) -> Any:
        told["asked"].append((policy.name, messages, sampling))
        if policy.name in told["fails"]:
            raise inference.InferenceError(inference.FAILED)
        yield inference.Delta(told.get("says", f"I, the {policy.name}, heard {len(messages)}."))
        yield inference.Delta("", "stop")

    monkeypatch.setattr(inference, "stream", stream)
    return told


@pytest.fixture
def plan(project: Project, cook: Policy, baker: Policy, olga: User) -> TalkPlan:
    return TalkPlan(project=project, first=cook, second=baker, goal="Plan a meal.", author=olga)


@pytest.fixture
def work(plan: TalkPlan, alice: User) -> Assignment:
    open_talks(plan, count=1)
    found = next_assignment(alice, plan.project)
    assert found
    return found


@pytest.fixture
def page(browse: Browse, alice: User, work: Assignment, speaking: dict[str, Any]) -> Any:
    """The labeler's browser, without JavaScript: do("say/1/", said="…") follows to the page."""
    client = browse(alice)
    address = f"/p/{work.task.project.slug}/label/{work.pk}/"

    def do(act: str = "", **fields: Any) -> Any:
        sent = {"idempotency_key": KEY, "active_seconds": 30, **fields}
        path = f"{address}talk/{act}" if act else address
        return client.post(path, sent, follow=True)

    do.look = lambda: client.get(address)  # type: ignore[attr-defined]
    return do


def talk_three_turns(page: Any, work: Assignment) -> None:
    for number, choice in enumerate(("a4", "b2", "tie"), start=1):
        assert page(f"say/{number}/", said=f"Message {number}").status_code == 200
        turn = turns.turns_of(work)[-1]
        assert page(f"turns/{turn.pk}/choose/", choice=choice).status_code == 200


@pytest.fixture
def talked(page: Any, work: Assignment) -> Talk:
    talk_three_turns(page, work)
    page()
    return Talk.objects.get()


# The page


def test_a_talk_goes_on_with_the_chosen_answer(page, work, speaking):
    assert "Plan a meal." in page.look().text
    response = page("say/1/", said="I am hungry.")
    [turn] = turns.turns_of(work)
    first, second = turn.pair
    assert {first.policy.name, second.policy.name} == {"cook", "baker"}
    for answer in (first, second):
        assert answer.text in response.text.replace("&#x27;", "'")
    assert "B barely better" in response.text
    page(f"turns/{turn.pk}/choose/", choice="b3")
    speaking["asked"].clear()
    page("say/2/", said="Less salt.")
    for name, messages, _ in speaking["asked"]:
        assert [each["content"] for each in messages[-3:]] == [
            "I am hungry.",
            second.text,
            "Less salt.",
        ], name


def test_nobody_is_told_who_answers(page, work, cook, baker):
    response = page("say/1/", said="Who are you?")
    text = response.text
    for answer in turns.turns_of(work)[0].pair:
        text = text.replace(answer.text, "")
    assert "baker" not in text
    assert "cook" not in text.replace("cooking", "").replace("Cooking", "")


def test_the_order_of_the_answers_is_drawn_for_every_turn_and_stays(work):
    seen = set()
    for number in range(1, 33):
        turn = turns.say(work, text="Hello", number=number)
        TurnAnswer.objects.filter(turn=turn).update(state="done", text="x", heard_at=None)
        TurnAnswer.objects.filter(turn=turn, place=0).update(text="y")
        seen.add(tuple(answer.policy.name for answer in turn.pair))
        turns.choose(work, turn=turn.pk, choice="tie")
        order = [answer.pk for answer in Turn.objects.get(pk=turn.pk).pair]
        assert order == [answer.pk for answer in turn.pair]
    assert seen == {("cook", "baker"), ("baker", "cook")}


def test_a_choice_can_be_changed_until_the_talk_goes_on(page, work):
    page("say/1/", said="Hi")
    [turn] = turns.turns_of(work)
    page(f"turns/{turn.pk}/choose/", choice="a4")
    page(f"turns/{turn.pk}/think-again/")
    page(f"turns/{turn.pk}/choose/", choice="b1")
    assert Turn.objects.get().choice == "b1"
    page("say/2/", said="More")
    assert page(f"turns/{turn.pk}/choose/", choice="a1").status_code == 422
    assert Turn.objects.get(pk=turn.pk).choice == "b1"


def test_an_edited_answer_is_what_the_talk_goes_on_with(page, work, speaking):
    page("say/1/", said="Hi")
    [turn] = turns.turns_of(work)
    page(f"turns/{turn.pk}/choose/", choice="b3")
    page(f"turns/{turn.pk}/correct/", edited="Much better so.")
    page("say/2/", said="More")
    assert speaking["asked"][-1][1][-2] == {"role": "assistant", "content": "Much better so."}
    page(f"turns/{turns.turns_of(work)[1].pk}/choose/", choice="a3")
    page()
    edit = Edit.objects.get()
    assert (edit.text, edit.original.text) == ("Much better so.", turn.pair[1].text)
    assert edit.prompt.messages == [{"role": "user", "content": "Hi"}]
    assert selection.pairs(work.task.project)[0][1].get() == edit


def test_two_equal_answers_need_no_choice_and_are_no_ranking(page, work, speaking):
    speaking["says"] = "The same."
    response = page("say/1/", said="Hi")
    assert "same answer" in response.text
    [turn] = turns.turns_of(work)
    page(f"turns/{turn.pk}/choose/", outcome="ranked")
    page()
    assert Talk.objects.count() == 1
    assert not Ranking.objects.exists()


def test_a_policy_alone_answers_twice_and_not_by_rote(project, cook, olga, alice, speaking):
    cook.temperature = 0
    cook.save()
    open_talks(TalkPlan(project=project, first=cook, goal="x", author=olga), count=1)
    turn = turns.say(next_assignment(alice, project), text="Hi", number=1)
    assert [answer.policy for answer in turn.pair] == [cook, cook]
    assert {answer.sampling["temperature"] for answer in turn.pair} == {1.0}


def test_both_bad_is_a_ranking_that_calls_all_bad(page, work):
    page("say/1/", said="Hi")
    [turn] = turns.turns_of(work)
    page(f"turns/{turn.pk}/choose/", outcome="all_bad")
    page()
    assert Ranking.objects.get().outcome == "all_bad"
    assert Task.objects.of_kind("review").get().doubts == ["all_bad"]


# What fails


def test_a_failed_answer_is_shown_with_retry_and_is_no_data(page, work, speaking):
    speaking["fails"] = {"baker"}
    response = page("say/1/", said="Hi")
    [turn] = turns.turns_of(work)
    bad = next(answer for answer in turn.pair if answer.policy.name == "baker")
    assert inference.FAILED in response.text.replace("&#x27;", "'")
    assert f"answers/{bad.pk}/retry/" in response.text
    assert page(f"turns/{turn.pk}/choose/", choice="a4").status_code == 422
    assert page().status_code == 422
    assert not Talk.objects.exists()
    speaking["fails"] = set()
    assert "B much better" in page(f"answers/{bad.pk}/retry/").text
    page(f"turns/{turn.pk}/choose/", choice="a4")
    page()
    assert Ranking.objects.count() == 1


def test_what_a_dead_process_left_unfinished_can_be_asked_for_again(work, speaking):
    turn = turns.say(work, text="Hi", number=1)
    answer = turn.pair[0]
    answer.hear("I wanted to")
    long_ago = timezone.now() - timedelta(minutes=1)
    TurnAnswer.objects.filter(pk=answer.pk).update(heard_at=long_ago)
    answer.refresh_from_db()
    assert answer.trouble == answer.BROKE_OFF
    answer.retry()
    assert answer.is_running
    assert answer.begin()


def test_everything_said_outlives_the_browser(page, work, browse, alice):
    page("say/1/", said="Hi")
    [turn] = turns.turns_of(work)
    page(f"turns/{turn.pk}/choose/", choice="a4")
    page("look/", said="Half a sen", active_seconds=77)
    response = browse(alice).get(f"/p/cooking/label/{work.pk}/")
    assert "Half a sen" in response.text
    assert turn.going_on in response.text.replace("&#x27;", "'")
    assert 'value="77"' in response.text


def test_each_turn_renews_the_lease(page, work):
    soon = timezone.now() + timedelta(minutes=1)
    Assignment.objects.filter(pk=work.pk).update(leased_until=soon)
    page("say/1/", said="Hi")
    work.refresh_from_db()
    assert work.leased_until > soon + timedelta(minutes=5)


def test_said_twice_it_is_there_once(page, work):
    page("say/1/", said="Hi")
    assert page("say/1/", said="Hi").status_code == 200
    assert page("say/1/", said="Something else").status_code == 422
    assert Turn.objects.count() == 1


def test_going_back_sets_aside_what_was_said_and_offers_it_again(page, work):
    talk_three_turns(page, work)
    second = turns.turns_of(work)[1]
    response = page(f"turns/{second.pk}/back/")
    assert response.context["form"]["said"].value() == "Message 2"
    assert [turn.said for turn in turns.turns_of(work)] == ["Message 1"]
    assert Turn.objects.count() == 3
    page()
    assert Ranking.objects.count() == 1


@pytest.mark.parametrize("act", ["say/1/", "turns/0/choose/", "turns/0/back/"])
def test_a_talk_that_is_over_takes_nothing_more(page, talked, act):
    before = list(Turn.objects.values())
    assert page(act, said="More", choice="a1").status_code == 422
    assert list(Turn.objects.values()) == before


def test_a_talk_of_a_set_length_ends_there_and_not_before(plan, alice, speaking):
    plan.length = 2
    open_talks(plan, count=1)
    work = next_assignment(alice, plan.project)
    for number in (1, 2):
        turn = turns.say(work, text="Hi", number=number)
        TurnAnswer.objects.filter(turn=turn).update(state="done", text="x")
        TurnAnswer.objects.filter(turn=turn, place=0).update(text="y")
        turns.choose(work, turn=turn.pk, choice="a1")
        if number == 1:
            with pytest.raises(ValidationError, match="1 of them"):
                Talk.record(assignment=work)
    with pytest.raises(ValidationError, match="ends after 2"):
        turns.say(work, text="Hi", number=3)
    assert Talk.record(assignment=work).in_short == "2 turns: Hi"


@pytest.mark.parametrize("act", ["say/1/", "look/", "turns/1/choose/", "answers/1/retry/"])
def test_nobody_else_touches_a_talk(browse, bob, work, act):
    response = browse(bob).post(f"/p/cooking/label/{work.pk}/talk/{act}", {"said": "Boo"})
    assert response.status_code == 404


def test_answers_stream_while_they_are_written(page, work, browse, alice, speaking):
    turn = turns.say(work, text="Hi", number=1)
    answer = turn.pair[0]
    response = browse(alice).get(f"/p/cooking/label/{work.pk}/talk/answers/{answer.pk}/stream/")

    async def read() -> str:
        return b"".join([block async for block in response.streaming_content]).decode()

    body = async_to_sync(read)()
    said = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: ")]
    assert said[0] == f"I, the {answer.policy.name}, heard {len(answer.context)}."
    assert body.endswith("event: done\ndata: {}\n\n")


# What it teaches


def test_three_turns_are_three_rankings_on_a_growing_context(talked, work):
    rankings = list(Ranking.objects.order_by("pk"))
    assert [len(each.prompt.messages) for each in rankings] == [1, 3, 5]
    kept = turns.turns_of(work)
    assert rankings[2].prompt.messages == turns.asked_in(kept, kept[2])
    assert [each.strength for each in rankings] == [4, 2, None]
    for turn, ranking in zip(kept, rankings, strict=True):
        shown = [answer.completion_id for answer in turn.pair]
        assert ranking.shown_order == ranking.letter_order == shown
        assert [ranking.places[pk] for pk in shown] == turn.places
        assert {p.completion.policy.name for p in ranking.placements.all()} == {"cook", "baker"}
    assert {each.prompt.source for each in rankings} == {"talk"}
    assert selection.rankings(work.task.project).count() == 2  # a tie prefers nothing


def test_a_round_freezes_the_turns_and_trains_on_them(talked, work, alice):
    Prompt.objects.filter(kind="talk").update(split="train")
    frozen = TRAININGS["reward"].collect(work.task.project, selection.EVERYTHING, train={})
    rows = sorted(frozen.files["train"], key=lambda row: len(row["prompt"]))
    assert [len(row["prompt"]) for row in rows] == [1, 3]  # a tie prefers nothing
    assert {row["labeler"] for row in rows} == {pseudonym(alice)}
    lines = [json.loads(line) for line in exporting.lines(work.task.project, "rankings")]
    assert [len(each["prompt"]) for each in lines] == [1, 3, 5]


@pytest.mark.parametrize("way", ["undo", "exclude", "withdraw", "erase"])
def test_taking_the_talk_back_takes_every_turn_back(talked, work, alice, rita, way):
    project = work.task.project
    assert selection.all_rankings(project).count() == 3
    if way == "undo":
        talked.retract(draft={})
        assert Task.objects.of_kind("talk").open().count() == 1
    elif way == "exclude":
        work.task.ask_for_review(["random"])
        review = next_assignment(rita, project, only="review")
        Review.record(assignment=review, verdicts={talked.pk: "excluded"}, cause="labeler_error")
        assert len(Review.ending(review)) == 1
    elif way == "withdraw":
        Withdrawal.withdraw(project, person=alice, by=rita)
    else:
        erase(alice)
        assert not Turn.objects.exclude(said="[erased]").exists()
        assert not Prompt.objects.filter(kind="talk", text__contains="Message").exists()
    assert selection.all_rankings(project).count() == 0


def test_an_undone_talk_can_be_ended_again(page, talked, work):
    talked.retract(draft={})
    assert not Ranking.objects.current().exists()
    page(idempotency_key="22222222-2222-4222-8222-222222222222")
    assert Ranking.objects.current().count() == 3
    assert Ranking.objects.count() == 9


def test_a_talk_sent_back_is_refused_as_one_and_counts_as_one_when_done_anew(
    page, talked, work, rita
):
    project = work.task.project
    work.task.ask_for_review(["random"])
    review = next_assignment(rita, project, only="review")
    Review.record(
        assignment=review, verdicts={talked.pk: "sent_back"}, comment="The last turn is off."
    )
    assert selection.all_rankings(project).count() == 0
    assert "The last turn is off." in page.look().text
    page(f"turns/{turns.turns_of(work)[2].pk}/back/")
    page("say/3/", said="Another third")
    page(f"turns/{turns.turns_of(work)[2].pk}/choose/", choice="a1")
    page(idempotency_key="22222222-2222-4222-8222-222222222222")
    in_force = selection.all_rankings(project)
    assert sorted(each.prompt.text for each in in_force) == [
        "Another third",
        "Message 1",
        "Message 2",
    ]
    assert Task.objects.of_kind("review").open().get().doubts == ["corrected"]


def test_a_whole_talk_is_in_one_split(talked):
    splits = set(Prompt.objects.filter(kind="talk").values_list("split", flat=True))
    first = Prompt.objects.filter(kind="talk").order_by("pk").first()
    assert splits == {first.split}
    rest = Prompt.objects.filter(kind="talk").exclude(pk=first.pk)
    assert {each.split_key for each in rest} == {prompt_key(first.messages)}


def test_the_goal_is_no_prompt_that_anybody_is_asked(talked, work, project):
    goal = work.task.prompt
    assert (goal.source, goal.text) == (GOAL, "Plan a meal.")
    assert goal not in selection.prompts(project)
    assert goal not in project.prompts.archived()
    exported = io.StringIO("".join(exporting.lines(project, "prompts"))).read()
    assert "Plan a meal." not in exported
    assert "Message 1" in exported


# Reviewing


def test_a_reviewer_reads_the_talk_as_it_was_and_accepts_it_as_one(browse, talked, work, rita):
    work.task.ask_for_review(["random"])
    review = next_assignment(rita, work.task.project, only="review")
    client = browse(rita)
    page = client.get(f"/p/cooking/review/{review.pk}/")
    for text in ("Message 1", "Message 3", "A much better", "B slightly better"):
        assert text in page.text
    assert "Use my" not in page.text
    seen = page.context["form"].initial["seen"]
    client.post(f"/p/cooking/review/{review.pk}/", {"verdict": "accept", "seen": seen})
    verdicts = Ranking.objects.with_last_verdict().values_list("last_verdict", flat=True)
    assert list(verdicts) == ["accepted"] * 3
    assert client.get(f"/p/cooking/review/{review.pk}/").status_code == 200


def test_what_was_said_can_be_read_afterwards(page, talked, browse, alice):
    assert "Message 2" in page.look().text
    assert "3 turns: Message 1" in browse(alice).get("/p/cooking/my-work/").text


# Asking for talks


def asked(cook, **fields):
    return {"first": cook.pk, "goal": "Dinner", "count": 3, "length": 2, **fields}


def test_operators_ask_for_talks(browse, olga, cook, baker):
    client = browse(olga)
    client.post("/p/cooking/talks/", asked(cook, second=baker.pk, harm="violent"))
    plan = TalkPlan.objects.get()
    assert plan.tags == ["talk", "red team", "violent"]
    assert plan.progress == {"asked": 3, "done": 0}
    assert "0 of 3" in client.get("/p/cooking/talks/").text


def test_operators_talk_to_any_policy_themselves(browse, olga, cook):
    response = browse(olga).post("/p/cooking/talks/", asked(cook, myself="1"))
    work = Assignment.objects.get()
    assert response.url == f"/p/cooking/label/{work.pk}/"
    assert work.labeler == olga


@pytest.mark.parametrize(
    "wrong", [{"goal": ""}, {"first": ""}, {"count": 0}, {"count": 501}, {"length": 21}]
)
def test_a_plan_that_does_not_hold_is_refused(browse, olga, cook, wrong):
    response = browse(olga).post("/p/cooking/talks/", asked(cook, **wrong))
    assert response.status_code == 422
    assert not Task.objects.exists()


def test_labelers_do_not_see_what_is_asked_for(browse, alice, cook):
    assert browse(alice).get("/p/cooking/talks/").status_code == 403


def test_a_policy_without_a_model_cannot_talk(project, olga, policy):
    with pytest.raises(ValidationError, match="has no model"):
        open_talks(TalkPlan(project=project, first=policy, goal="x", author=olga), count=1)
    assert not TalkPlan.objects.exists()


def test_the_real_client_streams_both_answers(work, model_server: ModelServer):
    assert model_server.url
    turn = turns.say(work, text="Hi", number=1)
    for answer in turn.pair:
        async_to_sync(streaming.write_whole)(answer)
    turn = turns.turns_of(work)[0]
    assert [answer.text for answer in turn.pair] == ["Boil it for **eight** minutes."] * 2
    assert {each["model"] for each in model_server.asked} == {"cook-1", "baker-1"}
