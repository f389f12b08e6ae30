"""The work of a project over the API: what the pages do, by the rules of the pages."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

from asgiref.sync import async_to_sync
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from annotate.models import Completion, Demonstration, Prompt, Ranking, User
from tests.rest import Api

ASKED = [{"role": "user", "content": "How do I boil an egg?"}]


def _whole(reply: Any) -> bytes:
    async def collect() -> bytes:
        return b"".join([block async for block in reply.streaming_content])

    return async_to_sync(collect)()


def test_a_prompt_is_made_once_and_one_of_the_same_messages_is_found(olga: User) -> None:
    api = Api(olga)
    made = api("POST", "prompts", {"messages": ASKED, "tags": ["eggs"], "source": "book"})
    assert made.status_code == 201
    assert made.json()["tags"] == ["eggs"] and made.json()["messages"] == ASKED
    again = api("POST", "prompts", {"messages": ASKED})
    assert again.json()["id"] == made.json()["id"]
    assert Prompt.objects.count() == 1


def test_what_an_import_would_refuse_is_refused(olga: User) -> None:
    reply = Api(olga)("POST", "prompts", {"messages": [{"role": "assistant", "content": "Hi"}]})
    assert reply.status_code == 400
    assert "The last message of a prompt must come from the user." in reply.json()["detail"]


def test_lists_come_in_pages_that_new_rows_do_not_shift(
    olga: User, new_prompt: Callable[..., Prompt]
) -> None:
    made = [new_prompt(f"Question {n}").pk for n in range(5)]
    api, found, address = Api(olga), [], "prompts?limit=2"
    while address:
        page = api("GET", address).json()
        found += [row["id"] for row in page["results"]]
        new_prompt(f"While reading {len(found)}")
        address = page["next"]
    assert found == made[::-1]


def test_the_filters_are_those_of_the_page(olga: User, new_prompt: Callable[..., Prompt]) -> None:
    new_prompt("About rice"), new_prompt("About eggs")
    api = Api(olga)
    rows = api("GET", "prompts?words=rice").json()["results"]
    assert [row["messages"][0]["content"] for row in rows] == ["About rice"]
    refused = api("GET", "prompts?split=nonsense")
    assert (refused.status_code, list(refused.json()["fields"])) == (400, ["split"])


def test_a_misspelt_filter_is_refused_and_asks_nobody_of_everything(
    olga: User, new_prompt: Callable[..., Prompt]
) -> None:
    new_prompt("About rice")
    Prompt.objects.all().tag("rice")
    prompt, api = new_prompt("About eggs"), Api(olga)
    lists = ("prompts", "completions", "assignments", "labels/demonstrations", "documents")
    lists += ("imports", "exports/prompts", "policies", "reviews", "talks", "judges", "rounds")
    for address in (*lists, "runs", "promotions", "suite-results", "passages"):
        refused = api("GET", f"{address}?q=a&tags=rice&state=waiting&limit=2")
        assert refused.status_code == 400 and "tags" in refused.json()["fields"], address
    for address in ("tasks", "reviews/next"):
        kind = {"kind": "write"} if address == "tasks" else {}
        refused = api("POST", address, {**kind, "filter": {"tags": "rice"}})
        assert (refused.status_code, list(refused.json()["fields"])) == (400, ["tags"])
    assert not prompt.tasks.exists()
    for address in ("prompts?tag=rice&limit=2", "reviews?state=settled&kind=rank&age="):
        assert api("GET", address).status_code == 200, address
    rows = _whole(api("GET", "exports/prompts?tag=rice&format=jsonl&anonymous=1"))
    assert b"rice" in rows and b"eggs" not in rows


def test_a_call_with_the_same_key_is_done_once(olga: User) -> None:
    api = Api(olga)
    body = {"prompt": 0, "policy": "m", "text": "Eight."}
    body["prompt"] = api("POST", "prompts", {"messages": ASKED}).json()["id"]
    first = api("POST", "completions", body, Idempotency_Key="a")
    Completion.objects.all().delete()
    again = api("POST", "completions", body, Idempotency_Key="a")
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["Idempotent-Replayed"] == "true"
    assert not Completion.objects.exists()
    other = api("POST", "completions", {**body, "text": "Nine."}, Idempotency_Key="a")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
    assert api("POST", "completions", body, Idempotency_Key="b").status_code == 201
    assert Completion.objects.count() == 1


def test_a_refused_call_leaves_its_key_free(olga: User) -> None:
    api = Api(olga)
    assert api("POST", "prompts", {"messages": []}, Idempotency_Key="a").status_code == 400
    assert api("POST", "prompts", {"messages": ASKED}, Idempotency_Key="a").status_code == 201


def test_of_two_who_change_a_prompt_the_slower_is_told(olga: User) -> None:
    api = Api(olga)
    number = api("POST", "prompts", {"messages": ASKED}).json()["id"]
    etag = api("GET", f"prompts/{number}").headers["ETag"]
    assert api("PATCH", f"prompts/{number}", {"add_tags": ["a"]}).status_code == 428
    done = api("PATCH", f"prompts/{number}", {"add_tags": ["a"]}, If_Match=etag)
    assert (done.status_code, done.json()["tags"]) == (200, ["a"])
    late = api("PATCH", f"prompts/{number}", {"is_archived": True}, If_Match=etag)
    assert (late.status_code, late.json()["code"]) == (412, "precondition_failed")
    archived = api("PATCH", f"prompts/{number}", {"is_archived": True}, If_Match=done["ETag"])
    assert archived.json()["is_archived"] is True
    assert api("GET", "prompts").json()["results"] == []


def test_a_labeler_writes_an_answer_and_corrects_it(
    alice: User, olga: User, write_task: Callable[..., Any]
) -> None:
    write_task()
    api = Api(alice)
    work = api("POST", "assignments/next", {}).json()
    assert api("POST", "assignments/next").json()["id"] == work["id"]
    assert [each["name"] for each in work["form"] if each["required"]] == ["text"]
    address = f"assignments/{work['id']}/label"
    empty = api("POST", address, {"comment": "x"})
    assert (empty.status_code, list(empty.json()["fields"])) == (400, ["text"])
    odd = api("POST", address, {"text": "x", "stars": 5})
    assert (odd.status_code, list(odd.json()["fields"])) == (400, ["stars"])
    sent = {"text": "Eight minutes.", "active_seconds": 30}
    done = api("POST", address, sent, Idempotency_Key="k")
    assert done.status_code == 201 and done.json()["content"]["text"] == "Eight minutes."
    assert api("POST", address, sent, Idempotency_Key="k").json() == done.json()
    assert api("POST", address, {"text": "Nine."}).status_code == 409
    revised = api("PUT", address, {"text": "Ten."}, If_Match=done.headers["ETag"])
    assert (revised.status_code, revised.json()["revision"]) == (200, 2)
    late = api("PUT", address, {"text": "Eleven."}, If_Match=done.headers["ETag"])
    assert late.status_code == 412
    assert [row.text for row in Demonstration.objects.current()] == ["Ten."]
    assert [
        row["content"]["text"] for row in api("GET", "labels/demonstrations").json()["results"]
    ] == ["Ten."]
    theirs = Api(olga)("GET", "labels/demonstrations").json()["results"]
    assert [row["labeler"] for row in theirs] == ["alice"]


def test_a_labeler_ranks_blind(alice: User, rank_task: Callable[..., Any]) -> None:
    rank_task(k=3)
    api = Api(alice)
    work = api("POST", "assignments/next", {"kind": "rank"}).json()
    assert [each["letter"] for each in sorted(work["completions"], key=lambda c: c["id"])]
    assert "policy" not in json.dumps(work)
    shown = [each["id"] for each in work["completions"]]
    address = f"assignments/{work['id']}/label"
    placements = [{"completion": pk, "place": n} for n, pk in enumerate(shown, start=1)]
    missing = api("POST", address, {"placements": placements[:2]})
    assert missing.status_code == 400 and "Choose a tier for" in missing.json()["detail"]
    foreign = [*placements, {"completion": 999, "place": 1}]
    assert "placements[3]" in api("POST", address, {"placements": foreign}).json()["fields"]
    placements[0] |= {"rating": 7, "flags": ["opinion"]}
    done = api("POST", address, {"placements": placements, "reason": "Short."})
    assert done.status_code == 201
    ranking = Ranking.objects.get()
    assert ranking.places == {pk: n for n, pk in enumerate(shown, start=1)}
    assert (ranking.placed[0].rating, ranking.placed[0].flags) == (7, ["opinion"])
    assert done.json()["content"]["placements"][0].keys() == {
        "completion",
        "place",
        "rating",
        "flags",
    }


def test_an_address_that_there_is_not_is_refused_like_the_others(olga: User) -> None:
    for address in ("prompts/null", "nonsense", "rounds/x/cancel"):
        reply = Api(olga)("GET", address)
        assert (reply.status_code, reply.json()["code"]) == (404, "not_found")
    assert Client().get("/api/v1/nonsense").status_code == 401


def test_who_has_not_read_the_guideline_gets_no_work(
    alice: User, write_task: Callable[..., Any]
) -> None:
    write_task()
    alice.memberships.update(guideline_read=0)
    reply = Api(alice)("POST", "assignments/next", {})
    assert (reply.status_code, reply.json()["code"]) == (409, "guideline_unread")


def test_a_file_is_looked_at_imported_and_exported(olga: User) -> None:
    api = Api(olga)
    line = {"question": "Which?", "prompt": "Which?", "completion": "This one.", "labeler": "ann"}
    file = SimpleUploadedFile("a.jsonl", json.dumps(line).encode() + b"\n")
    upload = Client().post("/api/v1/imports", {"file": file}, headers=api.headers)
    assert upload.status_code == 201
    assert upload.json()["seen"]["prompt"] == "Which?"
    address = f"imports/{upload.json()['id']}"
    assert api("GET", address).json() == upload.json()
    run = {"columns": {"question": ""}}
    tried = api("POST", f"{address}/run", {**run, "dry_run": True}).json()
    assert tried["is_dry_run"] and tried["new"]["demonstrations"] == 1
    assert not Demonstration.objects.exists()
    done = api("POST", f"{address}/run", run)
    assert done.status_code == 200 and Demonstration.objects.count() == 1
    assert api("GET", address).status_code == 404
    exported = api("GET", "exports/demonstrations")
    assert json.loads(_whole(exported))["completion"][0]["content"] == "This one."


def test_a_file_with_mistakes_is_refused_line_by_line(olga: User) -> None:
    api = Api(olga)
    upload = api(
        "POST",
        "imports",
        {"text": '{"prompt": "Hi", "completion": "Ho"}\n{"prompt": 7, "completion": "x"}'},
    )
    reply = api("POST", f"imports/{upload.json()['id']}/run", {})
    assert (reply.status_code, reply.json()["code"]) == (409, "import_failed")
    assert list(reply.json()["fields"]) == ["lines[2]"]
    left_out = api("POST", f"imports/{upload.json()['id']}/run", {"leave_out_bad": True})
    assert left_out.json()["left_out"] == 1


def test_tasks_are_opened_as_a_batch_with_its_day_priority_and_language(
    olga: User, new_prompt: Callable[..., Prompt]
) -> None:
    prompt, api = new_prompt("How do I cook rice?"), Api(olga)
    plan = {"batch": "rice", "priority": 3, "due": "2030-05-01", "language": "en"}
    made = api("POST", "tasks", {"kind": "write", "prompts": [prompt.pk], **plan})
    assert (made.status_code, made.json()["opened"]) == (201, 1)
    task = prompt.tasks.get()
    assert (task.batch, task.priority, task.language, task.skill) == ("rice", 3, "en", "")
    assert task.due_at and (task.due_at - timedelta(seconds=1)).date() == date(2030, 5, 1)
    # What is not sent stays as it was.
    api("POST", "tasks", {"kind": "write", "batch": "rice", "skill": "cooking"})
    task.refresh_from_db()
    assert (task.priority, task.language, task.skill) == (3, "en", "cooking")
    [batch] = api("GET", "batches").json()["results"]
    assert batch == {
        **{"name": "rice", "kinds": ["write"], "tasks": 1, "open": 1, "priority": 3},
        **{"due": "2030-05-01", "languages": ["en"], "skills": ["cooking"]},
        "unmet": ["en", "cooking"],
    }


def test_a_plan_that_cannot_be_kept_opens_no_task(
    olga: User, new_prompt: Callable[..., Prompt]
) -> None:
    prompt, api = new_prompt("How do I cook rice?"), Api(olga)
    for plan in (
        {"priority": 3},
        {"batch": "rice", "due": "9999-12-31"},
        {"batch": "rice", "language": "Elvish"},
        {"batch": "rice", "priority": 1000},
    ):
        refused = api("POST", "tasks", {"kind": "write", **plan})
        assert refused.status_code == 400 and refused.json()["fields"], plan
    assert not prompt.tasks.exists()
