import re
from html import unescape

import pytest
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from annotate.models import Policy, Ranking, Withdrawal
from annotate.templatetags.show import interval
from rlhf.models import (
    Checkpoint,
    Evaluation,
    Metric,
    Promotion,
    RewardModel,
    Round,
    Run,
    Sample,
    Snapshot,
    TrainedPolicy,
)
from rlhf.models.leases import claim
from rlhf.models.metrics import THINNED
from rlhf.rounds.launch import launch_round, launch_sampling
from rlhf.rounds.report import report_on
from rlhf.rounds.round_form import RoundForm
from rlhf.rounds.settings import Launch
from rlhf.runs.alarms import CONFIG_ERROR

HTMX = {"headers": {"HX-Request": "true"}}


def write_metrics(run: Run, *rows: tuple[int, str, dict]) -> None:
    Metric.objects.bulk_create(
        Metric(
            run=run,
            lease_token=run.lease_token,
            step=step,
            split=split,
            values=values,
            time=timezone.now(),
        )
        for step, split, values in rows
    )


@pytest.fixture
def running(round, prompts) -> Run:
    """The first stage, in the middle of its work."""
    run = claim().run
    rows = [(step, "train", {"loss": 1 / step, "lr": 0.1}) for step in range(1, 6)]
    write_metrics(run, *rows, (4, "test", {"loss": 0.5}))
    Sample.objects.create(
        run=run, lease_token=1, step=4, prompt=prompts[0], text="<b>Boil</b> it", score=0.25, kl=1
    )
    Run.objects.filter(pk=run.pk).update(step=5, total_steps=10)
    return run


def pages(round: Round, trained: Policy, sampling: Run, labeler: str) -> dict[str, dict]:
    """Every page of the operator, by the name of its URL."""
    first = round.runs.get(position=0)
    return {
        "rounds": {},
        "rounds_new": {},
        "documents": {},
        "rounds_queue": {},
        "rounds_show": {"number": round.number},
        "rounds_live": {"number": round.number},
        **{
            f"rounds_{tab}": {"number": round.number}
            for tab in ("charts", "samples", "logs", "data", "files")
        },
        "policies_run": {"run_id": sampling.pk},
        "rounds_metrics": {"run_id": first.pk},
        "policies_evaluation": {},
        "policies": {},
        "policies_fetch": {},
        "policies_sample": {},
        "policies_decisions": {},
        "policies_suites": {},
        "policies_suite": {},
        "policies_limits": {},
        "policies_gate": {"policy_id": trained.pk},
        "policies_lineage": {"policy_id": trained.pk},
        "policies_lineage_json": {"policy_id": trained.pk},
        "policies_reach": {"username": labeler},
    }


STAGES = ["sft", "reward", "ppo"]

ACTS = {
    "rounds_new": {},
    "rounds_show": {"act": "cancel"},
    "policies_run": {"act": "cancel"},
    "policies_evaluation": {},
    "rounds_ask_people": {"prompts": 3},
    "policies_sample": {},
    "policies_gate": {"reason": "better"},
    "policies_roll_back": {"reason": "worse"},
}


@pytest.fixture
def running_ppo(round, trained) -> Run:
    """A policy of PPO is there, and how far each step went from SFT."""
    run = round.runs.get(kind=Run.Kind.PPO)
    figures = [{"objective/kl": n / 2, "objective/scores": n / 10} for n in range(5)]
    write_metrics(run, *((n, "train", values) for n, values in enumerate(figures)))
    policy = Policy.objects.create(
        project=round.project, name="r1-ppo", origin=Policy.Origin.TRAINED, parent=trained
    )
    checkpoint = Checkpoint.objects.create(
        run=run, step=6, folder="runs/3/t1/model", manifest_sha256="b" * 64
    )
    TrainedPolicy.objects.create(policy=policy, checkpoint=checkpoint)
    return run


@pytest.fixture
def compared(trained, base, prompts, alice) -> None:
    """Alice prefers what was trained, on every held-out prompt."""
    for prompt in prompts[16:]:
        ranking = Ranking.objects.create(prompt=prompt, labeler=alice)
        for place, policy in enumerate((trained, base), start=1):
            completion = prompt.completions.create(
                policy=policy, text=f"{policy} says <b>so</b>", source="evaluation"
            )
            ranking.placements.create(completion=completion, place=place)


@pytest.fixture
def sampling(project, base, olga, prompts) -> Run:
    return launch_sampling(project, by=olga, policies=[base], k=2, prompts=prompts)


def flowed(reply) -> str:
    """The page as a browser reads its text: where a line ends makes no difference."""
    return " ".join(reply.content.decode().split())


def test_only_the_operators_of_a_project_see_its_pages(
    round, trained, sampling, browse, olga, alice, rita, gus, mallory
):
    for name, arguments in pages(round, trained, sampling, "alice").items():
        address = reverse(name, kwargs={"slug": "cooking", **arguments})
        answers = {
            person.username: browse(person).get(address).status_code
            for person in (olga, alice, rita, gus, mallory)
        }
        assert answers == {"olga": 200, "alice": 403, "rita": 403, "gus": 403, "mallory": 404}, name


def test_only_the_operators_of_a_project_act(
    round, trained, sampling, browse, alice, rita, gus, mallory
):
    own = {**pages(round, trained, sampling, "alice"), "policies_roll_back": {}}
    own["rounds_ask_people"] = {"number": round.number}
    for name, data in ACTS.items():
        address = reverse(name, kwargs={"slug": "cooking", **own[name]})
        for person, status in ((alice, 403), (rita, 403), (gus, 403), (mallory, 404)):
            assert browse(person).post(address, data).status_code == status, name
    assert round.runs.filter(state=Run.State.CANCELLED).count() == 0
    assert not Promotion.objects.exists()


def test_a_foreign_number_answers_like_a_missing_one(round, trained, sampling, browse, mallory):
    """Also under the address of her own project."""
    for name, arguments in pages(round, trained, sampling, "alice").items():
        if arguments:
            address = reverse(name, kwargs={"slug": "elsewhere", **arguments})
            assert browse(mallory).get(address).status_code == 404, name


def test_empty_pages_say_what_to_do(project, browse, olga):
    client = browse(olga)
    assert "No rounds yet" in client.get("/p/cooking/rounds/").content.decode()
    assert "No policies yet" in client.get("/p/cooking/policies/").content.decode()
    new = client.get("/p/cooking/rounds/new/").content.decode()
    for name in ("no_base", "no_demonstrations", "no_rankings"):
        assert f'data-finding="{name}"' in new
    assert "Launch</button>" not in new


def test_the_round_page_says_how_it_goes_without_javascript(round, running, browse, olga):
    client = browse(olga)
    html = client.get("/p/cooking/rounds/1/").content.decode()
    assert "Running 12%" in html  # half of one stage of four
    assert "step 5 of 10" in html
    assert 'hx-trigger="every 2s"' in html
    html = client.get("/p/cooking/rounds/1/charts/").content.decode()
    assert "training: 1 at step 1, 0.2 at step 5 · held out: 0.5 at step 4" in html
    html = client.get("/p/cooking/rounds/1/samples/").content.decode()
    assert "&lt;b&gt;Boil&lt;/b&gt; it" in html and "score 0.25" in html


def test_the_live_part_comes_only_when_something_changed(round, running, browse, olga):
    client = browse(olga)
    from rlhf.rounds.report import report_on

    digest = report_on(Round.objects.with_runs().get()).digest
    assert client.get(f"/p/cooking/rounds/1/live/?seen={digest}").status_code == 204
    Run.objects.filter(pk=running.pk).update(step=6)
    assert client.get(f"/p/cooking/rounds/1/live/?seen={digest}").status_code == 200


def polled(html: str) -> list[str]:
    """What a page asks for again and again."""
    return [unescape(each) for each in re.findall(r'hx-get="([^"]+)"', html)]


@pytest.mark.parametrize("tab", ["charts", "samples", "logs", "data", "files"])
def test_the_head_of_every_tab_is_kept_up_to_date(round, running, browse, olga, tab):
    client = browse(olga)
    html = client.get(f"/p/cooking/rounds/1/{tab}/").text
    [address] = [each for each in polled(html) if "part=head" in each]
    assert client.get(address, **HTMX).status_code == 204, "nothing is new"
    Run.objects.filter(pk=running.pk).update(step=8)
    reply = client.get(address, **HTMX).text
    assert "Running 20%" in reply and "hx-swap-oob" not in reply and 'id="live"' not in reply
    [again] = polled(reply)
    assert client.get(again, **HTMX).status_code == 204
    running.fail(token=1, reason="x")
    assert polled(client.get(again, **HTMX).text) == [], "it is over"
    assert "part=head" not in client.get(f"/p/cooking/rounds/1/{tab}/").text


def test_the_head_of_the_overview_comes_with_the_rest_of_it(round, running, browse, olga):
    client = browse(olga)
    [address] = polled(client.get("/p/cooking/rounds/1/").text)
    Run.objects.filter(pk=running.pk).update(step=8)
    reply = client.get(address, **HTMX).text
    assert 'id="round-head" class="stack tight" hx-swap-oob="true"' in reply
    assert polled(reply) == [address.partition("seen=")[0] + "seen=" + digest_of(round)]


def digest_of(round: Round) -> str:
    return report_on(Round.objects.with_runs().get(pk=round.pk)).digest


def test_a_log_grows_on_its_page_until_another_one_does(round, running, browse, olga, data_dir):
    client = browse(olga)
    [waits] = [
        each for each in polled(client.get("/p/cooking/rounds/1/logs/").text) if "follows" in each
    ]
    assert client.get(waits, **HTMX).status_code == 204, "none yet"
    log = data_dir / running.folder / "t1" / "output.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("step 1\n")
    assert client.get(waits, **HTMX).headers["HX-Refresh"] == "true"
    html = client.get("/p/cooking/rounds/1/logs/").text
    [follows] = [each for each in polled(html) if "follows" in each]
    assert client.get(follows, **HTMX).status_code == 204
    log.write_text("step 1\nstep 2\n")
    reply = client.get(follows, **HTMX).text
    assert "step 2" in reply and "<details" not in reply and polled(reply) != [follows]
    running.fail(token=1, reason="x")
    assert client.get(follows, **HTMX).headers["HX-Refresh"] == "true"
    assert not polled(client.get("/p/cooking/rounds/1/logs/").text)


@pytest.mark.parametrize("page", ["policies/", "evaluation/"])
def test_a_list_of_runs_is_kept_up_to_date(project, base, browse, olga, page):
    config = {"is_comparison": True, "policies": [base.pk], "prompts": [], "train": {"k": 2}}
    run = Run.launch(project, kind=Run.Kind.SAMPLE, config=config, by=olga)
    client, url = browse(olga), f"/p/cooking/{page}"
    [query] = polled(client.get(url).text)
    assert client.get(url + query, **HTMX).status_code == 204
    Run.objects.filter(pk=run.pk).update(state=Run.State.RUNNING)
    reply = client.get(url + query, **HTMX).text
    assert "Running" in reply and "<h1" not in reply and polled(reply) != [query]
    Run.objects.filter(pk=run.pk).update(state=Run.State.SUCCEEDED)
    assert polled(client.get(url + query, **HTMX).text) == []


def test_rounds_side_by_side_are_kept_up_to_date(round, browse, olga):
    client, url = browse(olga), "/p/cooking/rounds/compare/"
    [query] = polled(client.get(f"{url}?round=1").text)
    assert client.get(url + query, **HTMX).status_code == 204
    round.runs.filter(position=0).update(step=3)
    reply = client.get(url + query, **HTMX).text
    assert 'id="differences"' in reply and polled(reply) != [query]
    round.runs.update(state=Run.State.SUCCEEDED)
    assert polled(client.get(url + query, **HTMX).text) == []


@pytest.mark.parametrize("verb", ["succeed", "fail", "pause"])
def test_polling_stops_when_the_round_is_over(round, browse, olga, verb):
    details = {"succeed": {"summary": {}}}.get(verb, {"reason": "disk full", "log_tail": "ENOSPC"})
    while lease := claim():
        getattr(lease.run, verb)(token=lease.token, **details)
    html = browse(olga).get("/p/cooking/rounds/1/").content.decode()
    assert "hx-trigger" not in html
    assert ("Resume" in html) == (verb != "succeed")
    if verb != "succeed":
        assert "disk full" in html and "ENOSPC" in html


@pytest.mark.parametrize(
    ("verb", "reason", "first"),
    [
        ("pause", "kl limit: KL per answer is 4.8 nats, the limit is 0.3", "Clone settings"),
        ("pause", "disk full", "Resume"),
        ("fail", "kl limit", "Resume"),  # no guard's word
    ],
)
def test_what_to_do_next_is_the_first_button(round, browse, olga, verb, reason, first):
    lease = claim()
    getattr(lease.run, verb)(token=lease.token, reason=reason)
    html = browse(olga).get("/p/cooking/rounds/1/").content.decode()
    primary = re.findall(r'class="button primary"[^>]*>\s*<svg.*?</svg>\s*([\w ]+)<', html, re.S)
    assert primary == [first]


def test_the_place_in_the_queue_is_shown_and_can_be_changed(project, labels, base, browse, olga):
    for _ in range(2):
        launch_round(project, Launch(base=base, recipe="tiny"), by=olga)
    client = browse(olga)
    assert "number 2 in the queue" in client.get("/p/cooking/rounds/2/").content.decode()
    page = client.post("/p/cooking/rounds/2/", {"act": "first"}, follow=True).content.decode()
    assert "number 1 in the queue" in page and "Move to front" not in page
    assert "Move to front" in client.get("/p/cooking/rounds/1/").content.decode()


def test_what_was_changed_for_another_try_is_told(round, browse, olga):
    retries = [{"why": "out_of_memory", "changes": {"micro_batch_size": 8}}]
    round.runs.filter(position=0).update(retries=retries)
    page = flowed(browse(olga).get("/p/cooking/rounds/1/"))
    assert "Tried again after running out of memory, with micro_batch_size 8." in page


@pytest.mark.parametrize(("reason", "is_first"), [("disk: ", True), (CONFIG_ERROR, False)])
def test_a_run_that_would_fail_again_is_not_offered_first(sampling, browse, olga, reason, is_first):
    Run.objects.filter(pk=sampling.pk).update(state="failed", reason=f"{reason}no such model")
    page = browse(olga).get(f"/p/cooking/runs/{sampling.pk}/").text
    shown = re.search(r'<button[^>]*value="resume">', page)[0]
    assert ("primary" in shown) is is_first


def test_cancel_and_resume_from_the_page(round, browse, olga):
    client = browse(olga)
    client.post("/p/cooking/rounds/1/", {"act": "cancel"})
    assert set(round.runs.values_list("state", flat=True)) == {"cancelled"}
    client.post("/p/cooking/rounds/1/", {"act": "resume"})
    assert set(round.runs.values_list("state", flat=True)) == {"queued"}
    again = client.post("/p/cooking/rounds/1/", {"act": "resume"}, follow=True)
    assert "Nothing was changed" in again.content.decode()


def test_a_round_that_a_guard_paused_is_given_up_and_says_why(round, running, browse, olga):
    why = "kl limit: KL per answer is 4.8 nats"
    running.request_cancel()  # and the guard came first
    assert running.pause(token=1, reason=why)
    client = browse(olga)
    page = client.get("/p/cooking/rounds/1/").text
    assert 'name="act" value="cancel">' in page and 'value="resume"' in page
    page = client.post("/p/cooking/rounds/1/", {"act": "cancel"}, follow=True).text
    assert set(round.runs.values_list("state", flat=True)) == {"cancelled"}
    assert "SFT was cancelled." in page and why in page and "Saving, then cancelling" not in page
    assert 'value="cancel"' not in page and 'value="resume"' in page
    assert "a higher kl_coef" in page, (
        "what to change, and to clone the settings rather than resume"
    )
    assert '<a class="button primary" href="/p/cooking/rounds/new/?like=1">' in page


def test_a_sampling_that_a_full_disk_paused_is_given_up(sampling, browse, olga):
    assert claim().run.pause(token=1, reason="disk full")
    client, address = browse(olga), f"/p/cooking/runs/{sampling.pk}/"
    page = client.get(address).text
    assert 'value="cancel">' in page and 'value="resume"' in page
    page = client.post(address, {"act": "cancel"}, follow=True).text
    sampling.refresh_from_db()
    assert sampling.state == "cancelled"
    assert 'value="cancel"' not in page and 'value="resume"' in page and "disk full" in page


@pytest.mark.parametrize(
    ("after", "steps"),
    [
        ("", [1, 2, 3, 4, 4, 5]),
        ("?after=3", [4, 4, 5]),
        ("?after=1&last=3", [2, 3]),
        ("?after=5", []),
    ],
)
def test_metrics_come_from_a_step_on(round, running, browse, olga, after, steps):
    answer = browse(olga).get(f"/p/cooking/runs/{running.pk}/metrics.json{after}").json()
    sent = [step for columns in answer["columns"].values() for step in columns["step"]]
    assert sorted(sent) == steps
    assert (answer["over"], answer["step"], answer["total_steps"]) == (False, 5, 10)
    assert all(set(columns) == {"step", "loss"} for columns in answer["columns"].values()), (
        "only what is drawn"
    )


def test_a_step_that_is_no_number_is_refused(round, running, browse, olga):
    for query in ("after=x", "last=1.5"):
        answer = browse(olga).get(f"/p/cooking/runs/{running.pk}/metrics.json?{query}")
        assert answer.status_code == 400 and "whole number" in answer.json()["error"]


def test_metrics_say_when_a_run_is_over(round, running, browse, olga):
    running.fail(token=1, reason="x")
    answer = browse(olga).get(f"/p/cooking/runs/{running.pk}/metrics.json").json()
    assert (answer["over"], answer["state"]) == (True, "failed")


@pytest.mark.parametrize(
    ("summary", "shown"),
    [
        (
            {"held_out": True, "accuracy": 0.61, "accuracy_low": 0.55, "accuracy_high": 0.67},
            "accuracy 61% (55%–67%) of 312",
        ),
        ({"held_out": True, "accuracy": 1.0}, "accuracy 100% (no interval) of 312"),
        ({"held_out": False, "accuracy": None}, "no accuracy: no ranking was held out"),
    ],
)
def test_an_accuracy_that_nothing_could_show_is_said_to_be_missing(
    summary, shown, round, running, browse, olga
):
    write_metrics(running, (9, "final", {"data/comparisons": 312}))
    running.succeed(token=1, summary=summary)
    html = browse(olga).get("/p/cooking/rounds/1/").content.decode()
    assert not summary["accuracy"] or report_on(round).headline == shown
    assert [line for line in html.splitlines() if "accuracy" in line.lower() and shown in line]


def test_a_sampling_that_is_over_leads_to_the_work_it_opened(sampling, browse, olga):
    claim().run.succeed(token=1, summary={"completions": 4, "rank_tasks": 2})
    html = browse(olga).get(f"/p/cooking/runs/{sampling.pk}/").content.decode()
    assert "4 completions, 2 to rank." in html
    assert 'the open rankings under <a href="/p/cooking/label/">Label</a>' in html


def test_the_list_of_rounds_shows_result_and_labels(round, trained, browse, olga):
    html = browse(olga).get("/p/cooking/rounds/").content.decode()
    assert "Round 1" in html and "Running 25%" in html
    assert "<strong>r1-sft</strong>" in html


def test_a_sampling_starts_from_the_page(project, base, prompts, browse, olga):
    client = browse(olga)
    data = {"policies": [base.pk], "k": 3, "split": "test"}
    answer = client.post("/p/cooking/policies/sample/", data, follow=True)
    run = Run.objects.get()
    test = [prompt.pk for prompt in prompts if prompt.split == "test"]
    assert (run.config["prompts"], run.config["train"]["k"]) == (test, 3)
    page = answer.content.decode()
    assert "Number 1 in the queue" in page
    assert f"base · 3 answers to each of {len(test)} prompts · launched by olga" in page
    refused = client.post("/p/cooking/policies/sample/", {"k": 3})
    assert refused.status_code == 422 and "required" in refused.content.decode()
    refused = client.post("/p/cooking/policies/sample/", {"policies": [base.pk], "k": 1})
    assert "cannot be ranked" in refused.content.decode()


@pytest.mark.parametrize("page", ["policies/", "evaluation/"])
def test_runs_that_are_not_listed_are_counted_and_one_click_away(project, base, browse, olga, page):
    config = {"is_comparison": True, "policies": [base.pk], "prompts": [], "train": {"k": 2}}
    for seed in range(7):
        Run.launch(project, kind=Run.Kind.SAMPLE, config=config, by=olga, seed=seed)
    html = flowed(browse(olga).get(f"/p/cooking/{page}"))
    assert html.count("Sample run") == 5 and "5 of 7 are shown." in html
    html = flowed(browse(olga).get(f"/p/cooking/{page}?runs=all"))
    assert html.count("Sample run") == 7 and "are shown" not in html


def test_templates_start_no_queries(
    round, trained, sampling, browse, olga, django_assert_max_num_queries
):
    client = browse(olga)
    for name, arguments in pages(round, trained, sampling, "alice").items():
        # The form of a new round looks all its data over: each check is a query, whatever the size.
        with django_assert_max_num_queries(46 if name == "rounds_new" else 24):
            client.get(reverse(name, kwargs={"slug": "cooking", **arguments}))


def test_people_and_reward_model_stand_side_by_side(trained, compared, running_ppo, browse, olga):
    html = browse(olga).get("/p/cooking/evaluation/").content.decode()
    assert "<strong>100%</strong>" in html and "on 4 prompts: 4 won, 0 tied, 0 lost" in html
    assert "70%" in html and "(55%–82%)" in html
    assert html.index('<th scope="row">r1-sft') < html.index('<th scope="row">base'), "the board"
    assert "Over-optimisation" in html and '"step": 1.4142' in html, "√2 nats"


@pytest.fixture
def over(round, trained, base, compared) -> Round:
    """The round is over; a reward model of unknown name saw nothing but wins on four prompts."""
    round.runs.update(state=Run.State.SUCCEEDED)
    summary = {"policy": trained.name}
    round.runs.filter(position=0).update(summary=summary)
    rates = {"win_rates": {"r1-sft over base": [1.0, 1.0, 1.0]}, "pairs": ["r1-sft over base"]}
    round.runs.filter(kind=Run.Kind.EVALUATE).update(summary=rates)
    run = round.runs.get(kind=Run.Kind.REWARD)
    run.summary = {"accuracy": 0.74, "accuracy_low": 0.68, "accuracy_high": 0.79}
    run.save(update_fields=["summary"])
    write_metrics(run, (9, "final", {"data/comparisons": 240}))
    made = Checkpoint.objects.create(
        run=run, step=1, folder="rm", manifest_sha256="c" * 64, is_final=True
    )
    model = RewardModel.objects.create(project=round.project, checkpoint=made, accuracy=0.74)
    Evaluation.objects.filter(policy=trained).update(
        reward_model=model, win_rate=1.0, low=0.51, high=1.0, prompts=4
    )
    return round


VERDICT_PAGES = ["policies/", "rounds/", "rounds/1/", "rounds/compare/?round=1", "evaluation/"]


@pytest.mark.parametrize("page", [*VERDICT_PAGES, "gate"])
def test_every_page_has_the_same_verdict_people_first_and_the_reward_model_by_name(
    over, trained, browse, olga, page
):
    page = f"policies/{trained.pk}/gate/" if page == "gate" else page
    html = browse(olga).get(f"/p/cooking/{page}").content.decode()
    start = html.index('data-verdict="r1-sft"')
    verdict = " ".join(re.sub(r"<[^>]+>", " ", html[start : html.index("</dl>", start)]).split())
    assert "People, blind 100% (51%–100%) on 4 prompts: 4 won" in verdict
    assert verdict.index("People, blind") < verdict.index("Reward model")
    assert "100% (51%–100%) on 4 prompts, says r1-reward" in verdict
    assert "right on 74% (68%–79%) of 240 held-out comparisons" in verdict


def test_a_reward_model_is_offered_with_its_accuracy(over, base):
    form = RoundForm(over.project, size="tiny", stages=["ppo"])
    labels = [label for _, label in form.fields["reward_model"].choices]
    assert labels == ["Train a new one", "r1-reward, accuracy 74% (68%–79%) of 240"]


ZERO_WIDTH = re.compile(r"(-?[\d.]+)( ?%)? ?(?:–|to) ?\1\2?(?![\d.])")


def test_no_page_shows_an_interval_of_zero_width(over, trained, sampling, browse, olga):
    """Not even where an earlier release has stored one, or people are of one mind."""
    assert ZERO_WIDTH.search("62% (62%–62%)") and ZERO_WIDTH.search("1.20 to 1.20")
    assert not ZERO_WIDTH.search("(86%–100%)")
    Evaluation.objects.update(win_rate=0.62, low=0.62, high=0.62)
    for name, arguments in pages(over, trained, sampling, "alice").items():
        html = browse(olga).get(reverse(name, kwargs={"slug": "cooking", **arguments}))
        text = re.sub(r"<[^>]+>", " ", html.content.decode())
        assert not ZERO_WIDTH.search(text), (name, ZERO_WIDTH.search(text))


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.861, 1.0, "(86%–100%)"),
        (0.6201, 0.6239, "(62.0%–62.4%)"),
        (None, None, "(no interval)"),
        (0.62, 0.62, "(no interval)"),
    ],
)
def test_an_interval_is_as_exact_as_its_ends_are_apart(low, high, said):
    assert interval(low, high) == said


def test_a_judge_that_withdrawn_data_taught_is_said_to_be_stale(
    over, project, alice, olga, trained, browse
):
    model = RewardModel.objects.get()
    snapshot = Snapshot.objects.create(
        project=project, run=model.checkpoint.run, sha256="d" * 64, counts={"train": 7}
    )
    snapshot.rankings.set(Ranking.objects.filter(labeler=alice))
    page = f"/p/cooking/policies/{trained.pk}/gate/"
    assert "stale" not in browse(olga).get(page).content.decode()
    Withdrawal.withdraw(project, person=alice, by=olga, reason="asked to")
    html = " ".join(browse(olga).get(page).content.decode().split())
    assert "It learnt from data that has since been withdrawn: 7 rankings to learn from" in html


def test_policies_are_sent_to_people_from_the_page(project, base, trained, browse, olga):
    chosen = {"compared": [base.pk, trained.pk], "prompts": 3}
    refused = browse(olga).post("/p/cooking/evaluation/", {**chosen, "compared": [base.pk]})
    assert refused.status_code == 422 and "at least two" in refused.content.decode()
    Policy.objects.filter(pk=trained.pk).update(folder=base.folder)
    answer = browse(olga).post("/p/cooking/evaluation/", chosen)
    run = Run.objects.samplings().get()
    assert answer.url == f"/p/cooking/runs/{run.pk}/"
    assert run.config["is_comparison"] and len(run.config["prompts"]) == 3


def test_asking_people_too_early_says_so(round, browse, olga):
    said = browse(olga).post("/p/cooking/rounds/1/ask/", {"prompts": 3}, follow=True)
    assert "has not finished" in said.content.decode()
    said = browse(olga).post("/p/cooking/rounds/1/ask/", {"prompts": "x"}, follow=True)
    assert "1 to 2000" in said.content.decode()


@pytest.mark.parametrize("steps", [0, 1, 300, 301, 1000])
def test_a_long_run_is_drawn_by_a_bounded_number_of_rows(steps, running):
    start = 1000
    write_metrics(running, *((start + n, "train", {"loss": n}) for n in range(steps)))
    write_metrics(running, *((start + n, "test", {"loss": n}) for n in range(0, steps, 7)))
    running.step = start + steps - 1
    rows = Metric.objects.thinned(running, splits=["train", "test"], after=start - 1)
    shown = {split: [row.step for row in rows if row.split == split] for split in ("train", "test")}
    if steps <= 300:
        assert len(shown["train"]) == steps
        return
    assert 150 <= len(shown["train"]) <= 301 and len(shown["test"]) <= 301
    assert shown["train"][0] == shown["test"][0] == start
    assert shown["train"][-1] == start + steps - 1
    gaps = [b - a for a, b in zip(shown["train"], shown["train"][1:], strict=False)]
    assert max(gaps) <= -(-steps // 300)


def test_rows_of_a_long_run_are_found_in_the_index(running, django_assert_max_num_queries):
    write_metrics(running, *((n, "train", {"loss": n}) for n in range(10, 2000)))
    running.step = 1999
    with django_assert_max_num_queries(2):
        list(Metric.objects.thinned(running, splits=["train", "test"]))
    given = {"run": running.pk, "splits": ["train"], "after": -1, "last": 2000, "stretch": 7}
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE rlhf_metric")
        cursor.execute("EXPLAIN " + THINNED, given)
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "Seq Scan on rlhf_metric" not in plan and "one_metric_row_a_step" in plan
