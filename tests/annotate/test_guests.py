"""New guests: what they say of answers trains nothing before somebody has looked."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from annotate.models import Conversation, Feedback, Message, Preference, User
from rlhf.rounds.preflight import preflight

DAY = timedelta(days=1)


@pytest.fixture
def guarded(project):
    project.new_guest_days = 7
    project.save()
    return project


@pytest.fixture
def give(live, guarded):
    """Asks, is answered, and gives a thumb."""

    def make(guest: User, text: str = "What is rice?", *, thumb_up: bool = True, **why) -> Feedback:
        answer = Conversation.start(project=guarded, guest=guest, text=text)
        Message.objects.filter(pk=answer.pk).update(state=Message.State.DONE, text="A grain.")
        thumb = Feedback.give(message=answer, user=guest, thumb_up=thumb_up, **why)
        thumb.harvest()
        return thumb

    return make


def known(project, at=None) -> set[int]:
    return set(Feedback.objects.of_project(project).of_known(at).values_list("pk", flat=True))


def came(person: User, days_ago: float) -> None:
    User.objects.filter(pk=person.pk).update(date_joined=timezone.now() - days_ago * DAY)


@pytest.mark.parametrize(("days", "is_known"), [(0, False), (6.9, False), (7.1, True)])
def test_a_thumb_counts_once_the_account_is_old_enough(give, gus, guarded, days, is_known):
    thumb = give(gus)
    came(gus, days)
    assert (thumb.pk in known(guarded)) == is_known
    waiting = Feedback.objects.of_project(guarded).of_newcomers()
    assert waiting.exists() != is_known


def test_a_project_may_trust_everybody(give, gus, guarded):
    give(gus)
    guarded.new_guest_days = 0
    guarded.save()
    assert known(guarded)


def test_only_guests_are_new(give, alice, guarded):
    thumb = give(alice)
    assert known(guarded) == {thumb.pk}


def test_what_was_known_at_a_moment_stays_so(give, gus, guarded):
    thumb, before = give(gus), timezone.now()
    gus.memberships.get().vouch()
    assert known(guarded) == {thumb.pk}
    assert known(guarded, at=before) == set()


def test_a_reviewer_looks_and_lets_them_train(give, gus, guarded, rita, browse):
    give(gus, "What is rice?", thumb_up=False, note="Too <b>short</b>")
    client, page = browse(rita), reverse("labelers_guests", args=["cooking"])
    html = client.get(page).text
    assert "What is rice?" in html and "A grain." in html and "Too &lt;b&gt;short" in html
    member = gus.memberships.get()
    done = client.post(page, {"member": member.pk, "act": "vouch"}, follow=True)
    assert "thumbs now count for training" in done.text and "No new guests" in done.text
    assert known(guarded)


def test_who_is_left_out_waits_no_more_and_trains_nothing(give, gus, guarded, rita, browse):
    give(gus)
    page = reverse("labelers_guests", args=["cooking"])
    member = gus.memberships.get()
    done = browse(rita).post(page, {"member": member.pk, "act": "exclude"}, follow=True)
    assert "No new guests" in done.text
    assert not Feedback.objects.of_project(guarded).of_trusted().exists()


def test_a_chat_that_may_not_be_used_is_not_shown(give, gus, guarded, rita, browse):
    thumb = give(gus, "My secret question")
    thumb.message.conversation.allow_improving(allowed=False)
    page = browse(rita).get(reverse("labelers_guests", args=["cooking"])).text
    assert "My secret question" not in page and "No new guests" in page


@pytest.mark.parametrize("number", ["", "x", "0", "999999999"])
def test_a_member_who_is_not_there_is_nobody(guarded, rita, browse, number):
    page = reverse("labelers_guests", args=["cooking"])
    assert browse(rita).post(page, {"member": number, "act": "vouch"}).status_code == 404


def test_the_members_of_another_project_are_not_there(give, gus, guarded, mallory, browse):
    give(gus)
    page = reverse("labelers_guests", args=["elsewhere"])
    told = {"member": gus.memberships.get().pk, "act": "vouch"}
    assert browse(mallory).post(page, told).status_code == 404
    assert not known(guarded)


def test_who_only_compared_answers_is_looked_at_too(give, gus, guarded, live, rita, browse):
    thumb = give(gus)
    one, thumb = thumb.message, thumb.retract()
    other = Conversation.start(project=guarded, guest=gus, text="What is rice?")
    Message.objects.filter(pk=other.pk).update(state=Message.State.DONE, text="A <b>plant</b>.")
    Preference.between(one, other, user=gus, verdict="worse").harvest()
    page = reverse("labelers_guests", args=["cooking"])
    html = browse(rita).get(page).text
    assert "1 comparison of two answers" in html and "1. <bdi>A &lt;b&gt;plant" in html
    found = {each.name: each.message for each in preflight(guarded, None).findings}
    assert found["preferences_of_new_guests"].startswith("1 comparison by new guests")
    done = browse(rita).post(
        page, {"member": gus.memberships.get().pk, "act": "vouch"}, follow=True
    )
    assert "No new guests" in done.text
    assert "preferences_of_new_guests" not in {e.name for e in preflight(guarded, None).findings}


# Who is held out has trained nothing


def test_all_that_a_guest_asks_is_in_one_split(give, gus, bob, guarded):
    guarded.new_guest_days = 0
    for guest in (gus, bob):
        asked = [give(guest, f"Question {n} of {guest}?").answer.prompt for n in range(12)]
        assert len({prompt.split for prompt in asked}) == 1
        for prompt in asked:
            split = prompt.split
            prompt.save()
            assert prompt.split == split


def test_guests_fall_into_all_splits(guarded):
    from annotate.prompts.models import split_of

    chats = [Conversation(guest_id=number) for number in range(1, 400)]
    splits = [split_of(each.split_key) for each in chats]
    assert 280 < splits.count("train") < 360
    assert splits.count("validation") > 15 < splits.count("test")


def test_what_a_product_sends_is_split_by_its_content(live, guarded, gus):
    splits = set()
    for number in range(40):
        messages = [{"role": "user", "content": f"Question {number}?"}]
        answer = Conversation.of_api_call(project=guarded, user=gus, messages=messages)
        Message.objects.filter(pk=answer.pk).update(state=Message.State.DONE, text="So.")
        completion = answer.become_data()
        splits.add(completion.prompt.split)
    assert len(splits) > 1
