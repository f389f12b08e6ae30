"""All chats of a guest: found again, named, taken along, shared by a link, deleted."""

import json
import re
from datetime import date, datetime, timedelta
from itertools import pairwise

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.chat.history import _when
from annotate.chat.shares import NothingToShare, Share
from annotate.erasure import erase
from annotate.models import Conversation, Feedback, Message, Policy, Project, Prompt, User
from annotate.prompts.withdrawals import Withdrawal
from tests.chats import QUESTION, Browse, ask, go_on, page_of, pending

ALL = "/p/cooking/chat/all/"


def chats(gus: User, count: int) -> list[Conversation]:
    project = gus.memberships.get().project
    made = []
    for number in range(count):
        chat = Conversation.objects.create(project=project, guest=gus, title=f"Chat {number}.")
        chat.index()
        made.append(chat)
    return made


@pytest.mark.parametrize(
    ("day", "name"),
    [
        (date(2026, 3, 14), "Today"),
        (date(2026, 3, 15), "Today"),  # a clock that runs ahead
        (date(2026, 3, 13), "Yesterday"),
        (date(2026, 3, 12), "Previous 7 days"),
        (date(2026, 3, 7), "Previous 7 days"),
        (date(2026, 3, 6), "March"),
        (date(2026, 1, 1), "January"),
        (date(2025, 12, 31), "December 2025"),
    ],
)
def test_a_chat_stands_under_its_date(day: date, name: str) -> None:
    assert _when(day, date(2026, 3, 14)) == name


def test_dates_are_those_of_the_guests_calendar(gus: User, browse: Browse) -> None:
    [chat] = chats(gus, 1)
    late = datetime.fromisoformat("2026-01-01T03:00:00+00:00")  # still 2025 in New York
    Conversation.objects.filter(pk=chat.pk).update(created_at=late)
    client = browse(gus)
    assert "2025" not in client.get(ALL).content.decode()
    client.cookies["timezone"] = "America/New_York"
    assert "December 2025" in client.get(ALL).content.decode()


def test_every_chat_can_be_reached(gus: User, browse: Browse) -> None:
    made = chats(gus, 120)
    address, seen = ALL, []
    while address:
        page = browse(gus).get(address).content.decode()
        seen += re.findall(r">(Chat \d+\.)<", page)
        onward = re.search(r'href="([^"]*after=[^"]*)"', page)
        address = ALL + onward[1] if onward else ""
    assert seen == [str(chat) for chat in reversed(made)]
    sidebar = browse(gus).get("/p/cooking/chat/new/").content.decode()
    assert sidebar.count('">Chat ') == 50
    assert f'href="{ALL}"' in sidebar and "Today</h2>" in sidebar


def test_chats_are_searched_as_prompts_are(live: Policy, gus: User, browse: Browse) -> None:
    client = browse(gus)
    eggs = ask(client).conversation
    menu = ask(client, "Ein Menü für 二人").conversation
    found = {
        "minutes egg": {eggs, menu} - {menu},  # the answer has one word, the question the other
        "MENU": {menu},
        "二": {menu},
        "eight -egg": {menu},
        "umami": set(),
        '"boil it"': {eggs, menu},
    }
    for words, those in found.items():
        page = client.get(ALL, {"words": words}).content.decode()
        links = {int(pk) for pk in re.findall(r'/chat/(\d+)/"><bdi>', page)}
        assert links == {chat.pk for chat in those}, words
    assert "nothing to search for" in client.get(ALL, {"words": "\u0301"}).content.decode()


def test_a_search_finds_no_chat_of_others(
    live: Policy, gus: User, alice: User, browse: Browse
) -> None:
    ask(browse(alice))
    page = browse(gus).get(ALL, {"words": "egg"}).content.decode()
    assert QUESTION not in page
    assert "No chats yet" in page


def test_a_chat_is_renamed_and_found_by_its_name(live: Policy, gus: User, browse: Browse) -> None:
    client = browse(gus)
    chat = ask(client).conversation
    rename = reverse("chat_rename", args=["cooking", chat.pk])
    client.post(rename, {"title": "Breakfast"})
    assert "Breakfast</h1>" in page_of(client, chat)
    assert "Breakfast" in client.get(ALL, {"words": "breakf"}).content.decode()
    refused = client.post(rename, {"title": " "})
    assert refused.status_code == 422
    assert "Write a name first." in refused.content.decode()
    go_on(client, chat, "And a goose's?")
    chat.refresh_from_db()
    assert chat.title == "Breakfast"


def test_deleting_all_deletes_all_of_this_guest_in_this_project(
    live: Policy, gus: User, alice: User, browse: Browse
) -> None:
    answer = ask(browse(gus))
    Feedback.give(message=answer, user=gus, thumb_up=True).harvest()
    ask(browse(gus), "What is umami?")
    kept = ask(browse(alice)).conversation
    product = Conversation.objects.create(project=live.project, guest=gus, via_api=True)
    page = browse(gus).get(ALL).content.decode()
    assert "Delete all chats…</summary>" in page  # not by one click
    browse(gus).post("/p/cooking/chat/all/delete/")
    assert {*Conversation.objects.all()} == {kept, product}
    assert not Prompt.objects.exists()


def test_a_chat_goes_out_as_markdown_and_json(live: Policy, gus: User, browse: Browse) -> None:
    client = browse(gus)
    chat = ask(client).conversation
    client.post(reverse("chat_regenerate", args=["cooking", chat.messages.last().pk]))
    reply = client.get(reverse("chat_export", args=["cooking", chat.pk, "md"]))
    assert reply["Content-Disposition"] == 'attachment; filename="how-do-i-boil-an-egg.md"'
    assert reply.content.decode() == (
        f"# {QUESTION}\n\n## You\n\n{QUESTION}\n\n## Answer\n\nBoil it for **eight** minutes.\n"
    )
    reply = client.get(reverse("chat_export", args=["cooking", chat.pk, "json"]))
    said = json.loads(reply.content)["messages"]
    assert [(each["role"], each["shown"]) for each in said] == [
        ("user", True),
        ("assistant", False),
        ("assistant", True),
    ]
    assert {each["parent"] for each in said[1:]} == {said[0]["id"]}
    assert "cook" not in reply.content.decode().replace("cooking", "")  # who answered stays blind
    assert client.get(reverse("chat_export", args=["cooking", chat.pk, "exe"])).status_code == 404


@pytest.fixture
def shared(live: Policy, gus: User, browse: Browse) -> tuple[Conversation, str]:
    """A chat, and the address of a link to it."""
    chat = ask(browse(gus)).conversation
    page = browse(gus).post(reverse("chat_share", args=["cooking", chat.pk]), {"days": "7"})
    [link] = re.findall(r'<code id="link">([^<]+)</code>', page.content.decode())
    return chat, "/" + link.split("/", 3)[3]


def test_a_link_shows_the_chat_to_who_is_not_signed_in(
    shared: tuple[Conversation, str], client: Client, gus: User, browse: Browse, live: Policy
) -> None:
    chat, address = shared
    go_on(browse(gus), chat, "My secret sauce?")
    page = client.get(address)
    html = page.content.decode()
    assert QUESTION in html and "<strong>eight</strong>" in html
    assert "secret sauce" not in html  # said later
    for name in ("gus", "Gus", "cook-1", ">cook<", "Cooking", live.project.name):
        assert name not in html, name
    assert page["X-Robots-Tag"] == "noindex, nofollow"
    assert page["Cache-Control"] == "no-store"
    assert page["Referrer-Policy"] == "no-referrer"
    assert '<meta name="robots" content="noindex, nofollow">' in html
    assert "<form" not in html.split("<main")[1]


def test_the_link_itself_is_kept_nowhere(
    shared: tuple[Conversation, str], gus: User, browse: Browse
) -> None:
    chat, address = shared
    key = address.strip("/").split("/")[-1]
    assert len(key) >= 43
    share = Share.objects.get()
    assert key not in str(vars(share))
    later = browse(gus).get(reverse("chat_share", args=["cooking", chat.pk])).content.decode()
    assert key not in later and "Revoke" in later


def expire(chat: Conversation) -> None:
    chat.shares.update(expires_at=timezone.now() - timedelta(seconds=1))


ENDS = {
    "expired": lambda chat, client: expire(chat),
    "revoked": lambda chat, client: client.post(
        reverse("chat_unshare", args=["cooking", chat.pk, chat.shares.get().pk])
    ),
    "chat deleted": lambda chat, client: client.post(
        reverse("chat_delete", args=["cooking", chat.pk])
    ),
    "all deleted": lambda chat, client: client.post("/p/cooking/chat/all/delete/"),
    "guest left": lambda chat, client: chat.guest.memberships.update(state="left"),
    "guest suspended": lambda chat, client: chat.guest.memberships.update(state="paused"),
    "account closed": lambda chat, client: User.objects.filter(pk=chat.guest_id).update(
        is_active=False
    ),
    "withdrawn": lambda chat, client: Withdrawal.withdraw(chat.project, person=chat.guest, by=None),
    "erased": lambda chat, client: erase(chat.guest),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_link_ends(
    shared: tuple[Conversation, str], client: Client, gus: User, browse: Browse, end: str
) -> None:
    chat, address = shared
    assert client.get(address).status_code == 200
    ENDS[end](Conversation.objects.get(pk=chat.pk), browse(gus))
    gone = client.get(address)
    assert gone.status_code == 404
    assert QUESTION not in gone.content.decode()
    assert "It may have expired" in gone.content.decode()


def test_a_withdrawal_elsewhere_ends_no_link(
    shared: tuple[Conversation, str], client: Client, gus: User
) -> None:
    other = Project.objects.create(name="Other", slug="other")
    Withdrawal.withdraw(other, person=gus, by=None)
    assert client.get(shared[1]).status_code == 200


def test_a_link_of_another_chat_is_not_mine_to_end(
    shared: tuple[Conversation, str], alice: User, browse: Browse
) -> None:
    own = ask(browse(alice)).conversation
    share = Share.objects.get()
    address = reverse("chat_unshare", args=["cooking", own.pk, share.pk])
    assert browse(alice).post(address).status_code == 404
    assert Share.objects.exists()


def test_there_is_nothing_to_share_before_an_answer(
    live: Policy, gus: User, browse: Browse
) -> None:
    chat = pending(gus).conversation
    reply = browse(gus).post(reverse("chat_share", args=["cooking", chat.pk]), {"days": "1"})
    assert reply.status_code == 422 and "no answer to share yet" in reply.content.decode()
    with pytest.raises(NothingToShare):
        Share.issue(chat, days=1)
    assert not Share.objects.exists()


def test_links_differ(live: Policy, gus: User, browse: Browse) -> None:
    chat = ask(browse(gus)).conversation
    links = sorted(Share.issue(chat, days=1) for _ in range(20))
    assert all(one != other for one, other in pairwise(links))
    assert Message.objects.count() == 2
