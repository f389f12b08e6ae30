"""Two drafts of an answer: which is better, asked after a regenerate and of blind pairs."""

from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse

from annotate.chat.conversations import Conversation
from annotate.models import Message, Policy, Preference, Project, User
from tests.chats import ask, page_of, pending
from tests.model_server import ModelServer

Browse = Callable[[User], Client]


def prefer(client: Client, draft: Message, verdict: str) -> int:
    address = reverse("chat_prefer", args=["cooking", draft.pk])
    return client.post(address, {"verdict": verdict}).status_code


@pytest.fixture
def pairs(live: Policy, project: Project) -> Policy:
    project.two_drafts_percent = 100
    project.save()
    return live


@pytest.fixture
def regenerated(
    live: Policy, gus: User, browse: Browse, model_server: ModelServer
) -> tuple[Client, Message]:
    client = browse(gus)
    first = ask(client)
    model_server.says = ["Ask ", "your mother."]
    client.post(reverse("chat_regenerate", args=["cooking", first.pk]))
    return client, first.conversation.messages.get(compared_with=first)


def test_a_regenerated_answer_is_better_same_or_worse(
    regenerated: tuple[Client, Message],
) -> None:
    client, second = regenerated
    page = page_of(client, second.conversation)
    assert all(f'value="{verdict}"' in page for verdict in ("better", "same", "worse"))
    assert 'aria-pressed="true">' not in page
    assert prefer(client, second, "worse") == 302
    page = page_of(client, second.conversation)
    assert 'aria-pressed="true">Worse' in page
    assert Preference.objects.current().get().verdict == "worse"
    prefer(client, second, "none")
    assert not Preference.objects.current().exists()
    assert 'aria-pressed="true">Worse' not in page_of(client, second.conversation)


def test_it_is_compared_with_the_draft_it_was_to_replace(
    regenerated: tuple[Client, Message], model_server: ModelServer
) -> None:
    client, second = regenerated
    first = second.compared_with
    assert first
    client.post(reverse("chat_show", args=["cooking", first.pk]))
    model_server.says = ["Read a book."]
    client.post(reverse("chat_regenerate", args=["cooking", first.pk]))
    third = second.conversation.messages.order_by("-pk").first()
    assert third and third.compared_with == first


def test_the_same_words_are_not_compared(live: Policy, gus: User, browse: Browse) -> None:
    client = browse(gus)
    first = ask(client)
    client.post(reverse("chat_regenerate", args=["cooking", first.pk]))
    assert "Better" not in page_of(client, first.conversation)


def test_a_first_draft_is_compared_with_nothing(live: Policy, gus: User, browse: Browse) -> None:
    client = browse(gus)
    assert prefer(client, ask(client), "better") == 400


@pytest.mark.parametrize("verdict", ["", "best", "BETTER"])
def test_a_verdict_is_better_same_or_worse(
    regenerated: tuple[Client, Message], verdict: str
) -> None:
    client, second = regenerated
    assert prefer(client, second, verdict) == 400


def test_nobody_judges_the_drafts_of_others(
    regenerated: tuple[Client, Message], olga: User, browse: Browse
) -> None:
    _, second = regenerated
    assert prefer(browse(olga), second, "better") == 404


def test_two_blind_drafts_come_without_javascript(pairs: Policy, gus: User, browse: Browse) -> None:
    client = browse(gus)
    first = ask(client)
    second = first.conversation.messages.get(is_blind=True)
    assert (first.state, second.state) == ("done", "done")
    assert "Answer 1 is better" not in page_of(client, first.conversation), "they say the same"
    Message.objects.filter(pk=second.pk).update(text="Ask your mother.")
    page = page_of(client, first.conversation)
    assert "Answer 1 is better" in page and "Answer 2 is better" in page
    assert "Good answer" not in page, "thumbs come once one is chosen"
    prefer(client, second, "better")
    page = page_of(client, first.conversation)
    assert "is better" not in page
    assert page.index("Ask your mother.") and "2/2" in page
    assert first.conversation.turn_of(first).shown == second


def test_the_order_of_a_blind_pair_is_drawn_and_stays(pairs: Policy, gus: User) -> None:
    firsts = []
    for number in range(12):
        answer = pending(gus, f"Question {number}")
        for draft in (answer, answer.rivals.get()):
            draft.begin()
            draft.end(state="done", text=f"Text {draft.pk}")
        shown = [answer.conversation.turn_of(answer).pair[0].pk for _ in range(2)]
        assert shown[0] == shown[1]
        firsts.append(shown[0] == answer.pk)
    assert 0 < sum(firsts) < 12


@pytest.mark.parametrize("broken", [{"state": "failed"}, {"text": " "}, {"state": "stopped"}])
def test_a_broken_draft_leaves_nothing_to_choose(
    pairs: Policy, gus: User, browse: Browse, broken: dict[str, str]
) -> None:
    answer = ask(browse(gus))
    answer.rivals.update(**{"text": "Other.", **broken})
    turn = answer.conversation.turn_of(answer)
    assert not turn.pair and turn.shown == answer


def test_a_chat_that_may_teach_nothing_has_no_pairs(pairs: Policy, gus: User) -> None:
    answer = Conversation.start(
        project=pairs.project, guest=gus, text="Rice?", improves_model=False
    )
    assert not answer.rivals.exists()


def test_the_chat_goes_on_with_the_chosen_draft(
    pairs: Policy, gus: User, browse: Browse, project: Project
) -> None:
    client = browse(gus)
    first = ask(client)
    first.rivals.update(text="Ask your mother.")
    prefer(client, first.rivals.get(), "better")
    later = first.conversation.ask(text="And rice?")
    assert later.asked[1] == {"role": "assistant", "content": "Ask your mother."}
