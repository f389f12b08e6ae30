"""The Python client against a running site: import → label → export, round → promote."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from feedback_site_client import ApiError, AsyncClient, Client, calls, tables
from feedback_site_client import clients as timing

from annotate.models import ApiToken, Policy, Prompt, User

# The live server of the tests speaks WSGI; the site is served by ASGI.
pytestmark = pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume asynchronous")


def token_of(user: User) -> str:
    project = user.memberships.get().project
    return ApiToken.issue(project=project, user=user, scopes=ApiToken.Scope.values)[1]


LINES = [{"prompt": f"How do I cook dish {n}?", "completion": f"So: {n}."} for n in range(5)]


def test_it_walks_from_an_import_to_a_promotion(
    live_server: Any, olga: User, alice: User, base: Policy, labels: None, model_server: Any
) -> None:
    base.endpoint, base.model_name = model_server.url, "m"
    base.save()
    with Client(live_server.url, token_of(olga)) as site:
        fresh = [{"prompt": f"What is soup {n}?"} for n in range(3)]
        assert tables.bring(site, fresh, dry_run=True)["new"] == {"prompts": 3}
        assert tables.bring(site, fresh)["new"] == {"prompts": 3}
        found = list(site.every(calls.list_prompts(words="soup", limit="2")))
        assert len(found) == 3
        numbers = [prompt["id"] for prompt in found]
        assert site.send(calls.open_tasks("write", numbers))["opened"] == 3
        reply = site.ask(calls.retrieve_prompt(numbers[0]))
        changed = calls.change_prompt(numbers[0], etag=reply.etag, add_tags=["soup"])
        assert site.send(changed)["tags"] == ["soup"]
        with pytest.raises(ApiError) as stale:
            site.send(changed)
        assert (stale.value.status, stale.value.code) == (412, "precondition_failed")
    with Client(live_server.url, token_of(alice)) as labeler:
        written = 0
        while work := labeler.send(calls.next_assignment("write")):
            labeler.send(calls.submit_label(work["id"], text=f"Soup {work['id']}."))
            written += 1
        assert written == 3
        with pytest.raises(ApiError) as forbidden:
            labeler.send(calls.list_rounds())
        assert forbidden.value.status == 403
    with Client(live_server.url, token_of(olga)) as site:
        texts = [row["completion"][0]["content"] for row in tables.rows_of(site, "demonstrations")]
        assert len([text for text in texts if text.startswith("Soup ")]) == 3
        chosen: Any = {"base": base.pk, "stages": ["sft"], "recipe": "tiny"}
        planned = site.send(calls.plan_round(**chosen))["planned"]
        assert [stage["name"] for stage in planned] == ["SFT"]
        launch = calls.launch_round(**chosen, note="by the client")
        made = site.send(launch)
        assert site.send(launch) == made
        assert [each["number"] for each in site.every(calls.list_rounds())] == [1]
        site.send(calls.cancel_round(made["number"]))
        assert [each["state"] for each in site.watch_round(made["number"])] == ["cancelled"]
        decided = site.send(calls.promote(base.pk, "Good.", override="A test."))
        assert decided["policy"] == base.name
        assert [p["state"] for p in site.every(calls.list_policies())] == ["live"]


def test_the_async_client_does_the_same(live_server: Any, olga: User) -> None:
    token = token_of(olga)

    async def walk() -> list[int]:
        async with AsyncClient(live_server.url, token) as site:
            made = [(await site.send(calls.create_prompt(f"Q {n}")))["id"] for n in range(3)]
            listed = [row["id"] async for row in site.every(calls.list_prompts(limit="1"))]
            assert listed == made[::-1]
            return made

    assert sorted(asyncio.run(walk())) == sorted(Prompt.objects.values_list("pk", flat=True))


def test_frames_and_data_sets_go_in_and_come_out(live_server: Any, olga: User) -> None:
    datasets = pytest.importorskip("datasets")
    pandas = pytest.importorskip("pandas")
    with Client(live_server.url, token_of(olga)) as site:
        assert tables.bring(site, pandas.DataFrame(LINES))["new"]["demonstrations"] == 5
        assert tables.bring(site, datasets.Dataset.from_list(LINES))["known"]["demonstrations"] == 5
        frame = tables.as_frame(site, "demonstrations")
        assert len(frame) == 5 and {"prompt", "completion"} <= set(frame.columns)
        assert tables.as_dataset(site, "demonstrations").num_rows == 5


def test_a_wrong_line_is_named(live_server: Any, olga: User) -> None:
    with Client(live_server.url, token_of(olga)) as site, pytest.raises(ApiError) as refused:
        tables.bring(site, [*LINES, {"prompt": 7, "completion": "x"}])
    assert refused.value.code == "import_failed" and list(refused.value.fields) == ["lines[6]"]


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(timing.time, "sleep", slept.append)
    return slept


def answers(*replies: Any) -> tuple[Client, list[httpx.Request]]:
    """A client whose site answers so, one after the other."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        reply = replies[len(asked)]
        asked.append(request)
        if isinstance(reply, Exception):
            raise reply
        status, headers = reply
        return httpx.Response(status, headers=headers, json={"id": 1})

    return Client("https://x.test", "t", transport=httpx.MockTransport(answer)), asked


def test_what_is_busy_is_asked_again_under_the_same_key(pauses: list[float]) -> None:
    site, asked = answers(
        (429, {"Retry-After": "7"}), (503, {}), httpx.ConnectError("gone"), (201, {})
    )
    assert site.send(calls.create_prompt("Hi"))["id"] == 1
    keys = {request.headers["Idempotency-Key"] for request in asked}
    assert len(asked) == 4 and len(keys) == 1
    assert json.loads(asked[-1].content)["messages"] == [{"role": "user", "content": "Hi"}]
    assert pauses[0] == 7 and pauses[1] < 7 < 60


def test_what_is_refused_is_not_asked_again(pauses: list[float]) -> None:
    site, asked = answers((500, {}))
    with pytest.raises(ApiError):
        site.send(calls.list_rounds())
    assert len(asked) == 1 and pauses == []


def test_it_gives_up_in_the_end(pauses: list[float]) -> None:
    site, asked = answers(*[(503, {})] * 6)
    with pytest.raises(ApiError) as error:
        site.send(calls.list_rounds())
    assert error.value.status == 503 and len(asked) == 6
    site, asked = answers(*[httpx.ConnectError("gone")] * 6)
    with pytest.raises(httpx.ConnectError):
        site.send(calls.list_rounds())
    assert len(asked) == 6


def test_a_correction_is_sent_once_because_it_has_no_key(pauses: list[float]) -> None:
    site, asked = answers((503, {}))
    with pytest.raises(ApiError):
        site.send(calls.revise_label(1, etag='"1-1"', text="x"))
    assert len(asked) == 1


def test_a_product_gives_feedback_and_a_rating_keeps_the_thumb(
    live_server: Any, olga: User
) -> None:
    asked = calls.messages_of("Which?")
    logged = [
        {"external_id": name, "model": "m", "messages": asked, "answer": f"{name}.", "user": "u/5"}
        for name in "ab"
    ]
    with Client(live_server.url, token_of(olga)) as site:
        site.send(calls.log_answers(logged))
        site.send(calls.give_feedback("down", external_id="a", note="Dry."))
        rated = site.send(calls.give_feedback(external_id="a", rating=2, tags=["x"]))
        assert (rated["thumb"], rated["note"], rated["rating"]) == ("down", "Dry.", 2)
        assert site.send(calls.give_feedback(None, external_id="a"))["thumb"] is None
        better = calls.give_preference("better", external_id="a", other_external_id="b")
        assert site.send(better)["verdict"] == "better"
        assert {row["name"] for row in site.send(calls.list_measures())["results"]} == {
            "rating",
            "x",
        }
        assert site.send(calls.forget_end_user("u/5")) == {"exchanges": 2}
        site.send(calls.open_tasks("write"))
        assert site.send(calls.list_batches()) == {"results": []}
        kept = site.send(calls.upload(b'{"prompt": "Hi"}', "a.jsonl"))
        assert [row["id"] for row in site.every(calls.list_imports())] == [kept["id"]]
        site.send(calls.discard_import(kept["id"]))
        assert site.send(calls.list_imports())["results"] == []


def test_odd_line_ends_within_a_text_stay(live_server: Any, olga: User) -> None:
    odd = [{"prompt": "One\u2028two\u0085three?", "completion": "So\u2029."}]
    with Client(live_server.url, token_of(olga)) as site:
        tables.bring(site, odd)
        [row] = tables.rows_of(site, "demonstrations")
    assert row["prompt"][0]["content"] == odd[0]["prompt"]
