import pytest
from django.core.exceptions import ValidationError

from annotate.models import Conversation, Feedback, Message, Policy
from rlhf.models import Promotion
from rlhf.registry import promotion
from rlhf.registry.promotion import challenge, previous_live, promote, reject
from rlhf.rounds.report import policies_of

State = Policy.State


@pytest.fixture(autouse=True)
def warmed(monkeypatch) -> None:
    monkeypatch.setattr(promotion, "warm", lambda policy: None)


@pytest.fixture
def live(base) -> Policy:
    base.go_live()
    return base


@pytest.fixture
def candidate(project, live) -> Policy:
    return project.policies.create(name="r1-ppo", origin="trained", folder="x", parent=live)


def speakers(project, guest, chats: int) -> list[str]:
    made = [Conversation.start(project=project, guest=guest, text="Hello") for _ in range(chats)]
    return [answer.policy.name for answer in made]


def test_a_challenger_answers_its_share_of_the_chats(project, gus, olga, candidate):
    project.challenger_percent = 25
    project.save()
    assert set(speakers(project, gus, 20)) == {"base"}
    challenge(candidate, by=olga, reason="looks good")
    heard = speakers(project, gus, 120)
    assert 8 < heard.count("r1-ppo") < 55  # 30, and chance goes so far once in 100,000 times
    project.challenger_percent = 0
    project.save()
    assert set(speakers(project, gus, 20)) == {"base"}


def test_a_chat_goes_on_with_the_policy_it_began_with(project, gus, olga, candidate):
    project.challenger_percent = 50
    project.save()
    challenge(candidate, by=olga, reason="looks good")
    for _ in range(8):
        answer = Conversation.start(project=project, guest=gus, text="Hello")
        Message.objects.filter(pk=answer.pk).update(state=Message.State.DONE, text="Hi.")
        assert answer.conversation.ask(text="And now?").policy == answer.policy


def test_thumbs_are_told_apart_by_policy(project, gus, olga, candidate):
    project.challenger_percent = 50
    project.save()
    challenge(candidate, by=olga, reason="looks good")
    given: dict[str, int] = {"base": 0, "r1-ppo": 0}
    for _ in range(12):
        answer = Conversation.start(project=project, guest=gus, text="Hello")
        Feedback.give(message=answer, user=gus, thumb_up=answer.policy == candidate)
        given[answer.policy.name] += 1
    policies = {policy.name: policy for policy, _ in policies_of(project)}
    assert (policies["r1-ppo"].ups, policies["r1-ppo"].downs) == (given["r1-ppo"], 0)
    assert (policies["base"].ups, policies["base"].downs) == (0, given["base"])


def test_there_is_one_challenger_and_the_earlier_one_is_a_candidate_again(project, olga, candidate):
    other = project.policies.create(name="r2-ppo", origin="trained", folder="y")
    challenge(candidate, by=olga, reason="first")
    decision = challenge(other, by=olga, reason="second")
    assert decision.previous == candidate
    states = dict(project.policies.values_list("name", "state"))
    assert states == {"base": State.LIVE, "r1-ppo": State.CANDIDATE, "r2-ppo": State.CHALLENGER}
    with pytest.raises(ValidationError, match="already challenger"):
        challenge(other, by=olga, reason="again")


@pytest.mark.parametrize("act", [challenge, reject])
def test_every_decision_needs_its_reason(olga, candidate, act):
    with pytest.raises(ValidationError, match="Enter a reason"):
        act(candidate, by=olga, reason="  ")
    assert not Promotion.objects.exists()


def test_a_rejected_policy_keeps_the_reason_and_speaks_no_more(project, gus, olga, candidate):
    project.challenger_percent = 100
    project.save()
    challenge(candidate, by=olga, reason="try")
    reject(candidate, by=olga, reason="rambles")
    assert set(speakers(project, gus, 5)) == {"base"}
    assert candidate.promotions.latest("pk").reason == "rambles"
    with pytest.raises(ValidationError, match="rejected: not a candidate"):
        reject(candidate, by=olga, reason="again")


def test_the_live_policy_is_rolled_back_and_not_rejected(olga, live):
    with pytest.raises(ValidationError, match="live: not a candidate"):
        reject(live, by=olga, reason="bad")


def test_challenging_and_rejecting_change_nothing_about_the_way_back(project, olga, candidate):
    promote(candidate, by=olga, reason="better", override="nobody asked")
    other = project.policies.create(name="r2-ppo", origin="trained", folder="y")
    before = previous_live(project)
    challenge(other, by=olga, reason="try")
    reject(other, by=olga, reason="worse")
    assert previous_live(project) == before


def test_the_page_decides_with_a_reason(project, olga, candidate, browse):
    browser = browse(olga)
    at = f"/p/cooking/policies/{candidate.pk}"
    page = browser.post(f"{at}/challenge/", {"reason": "promising"}, follow=True).text
    assert "r1-ppo is challenger." in page and "Reject r1-ppo" in page
    page = browser.post(f"{at}/reject/", {"reason": ""}, follow=True).text
    assert "Enter a reason" in page
    page = browser.post(f"{at}/reject/", {"reason": "rambles"}, follow=True).text
    assert "r1-ppo is rejected." in page and "rambles" in page
