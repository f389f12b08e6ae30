import random
import time
from threading import Event, Thread

import pytest
from django.core.exceptions import ValidationError
from django.db import close_old_connections, connection, transaction

from annotate.labels.agreement import wilson
from annotate.models import Judge, Policy
from rlhf.data.checks import NotReady
from rlhf.evaluation.scorecard import launch_scorecard, scorecard_of
from rlhf.models import GateLimits, Run, Suite, SuiteResult
from rlhf.models.built_in_suites import BUILT_IN
from rlhf.models.leases import claim
from rlhf.models.probes import Probe, parse
from rlhf.models.suites import suite_hash
from rlhf.registry.gate import Condition, conditions
from rlhf.runs.supervisor import supervise
from tests.rlhf.fake_models import ASKS_ON, GOOD, REFUSES, gibberish

CHECKS = [
    # line's end, answer, does it pass?
    ("contains Paris|Lyon", "It is PARIS.", True),
    ("contains Paris", "It is Rome.", False),
    ("lacks ?", "About five minutes.", True),
    ("lacks ?", "How do I boil two?", False),
    (r"matches ^\d+$", "42", True),
    (r"matches ^\d+$", "42 days", False),
    ("unlike (?i)sorry", "I am SORRY.", False),
    ("unlike (?i)sorry", "Here you are.", True),
    ("json", '["apple", 2]', True),
    ("json", "Here: []", False),
    ("json name, age", '{"name": "Tom", "age": 3, "x": 1}', True),
    ("json name, age", '{"name": "Tom"}', False),
    ("json name", '["name"]', False),
    ("words 2", "Deep blue", True),
    ("words 2", "It is blue", False),
    ("words 2", "", False),
    ("json", "[" * 100_000, False),
]


@pytest.mark.parametrize(("check", "answer", "passes"), CHECKS)
def test_a_check_says_what_it_means(check, answer, passes):
    [probe] = parse(f"What is it? => {check}")
    assert probe.passes([answer]) is passes


@pytest.mark.parametrize(
    ("answers", "passes"),
    [(["John earns 5.", "Jane earns 5."], True), (["John earns 6.", "Jane earns 5."], False)],
)
def test_people_are_treated_alike_when_only_their_name_differs(answers, passes):
    [probe] = parse("What does {John|Jane} earn? => same")
    assert probe.prompts == ("What does John earn?", "What does Jane earn?")
    assert probe.passes(answers) is passes


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("no arrow", "write a prompt"),
        (" => json", "write a prompt"),
        ("What? => like it", "is no check"),
        ("What? => like(it)", "there is no check 'like'"),
        ("What? => ", "write a check after"),
        ("What? => supported", "grids of the playground only"),
        ("What? => contains(", "parentheses do not match"),
        ("What? => alike, readable", "needs a prompt with"),
        ("What? => contains", "needs a value"),
        ("What? => words few", "whole number"),
        ("What? => words " + "9" * 5000, "six digits"),
        ("What? => matches (", "the pattern is wrong"),
        ("What? => matches (?=a)b", "no lookaround and no backreferences"),
        ("What? => unlike (?<!a)b", "no lookaround and no backreferences"),
        (r"What? => matches (a)\1", "no lookaround and no backreferences"),
        ("What? => matches ((a{100}){100}){100}", "the pattern is wrong"),
        ("What? => same", "needs a prompt with"),
        ("{a|b} or {c|d}? => same", "only one"),
        ("What? +++ => json", "before and after each “+++”"),
        ("What? +++ Why? => judge(kind)", "a single question"),
    ],
)
def test_a_bad_line_is_named_with_what_to_do(line, told):
    with pytest.raises(ValidationError) as refused:
        parse(f"# a remark\nWhat? => json\n{line}")
    [message] = refused.value.messages
    assert message.startswith("Line 3: ") and told in message


@pytest.mark.parametrize(
    ("check", "answer", "passes"),
    [
        ("contains(Paris), length(1-3)", "In Paris.", True),
        ("contains(Paris), length(1-3)", "It is in Paris.", False),
        ("lacks(?), readable", "", False),
        ('json-schema({"type": "array"})', "[1]", True),
        ('json-schema({"type": "array"})', "{}", False),
    ],
)
def test_all_checks_of_a_line_must_pass(check, answer, passes):
    [probe] = parse(f"What is it? => {check}")
    assert probe.passes([answer]) is passes


def share(name: str, says) -> float:
    """Of the probes of a built-in suite that a model passes; `says`: number of the probe → text."""
    probes = parse(BUILT_IN[name])
    passed = [
        probe.passes([says(number)] * len(probe.prompts)) for number, probe in enumerate(probes)
    ]
    return sum(passed) / len(passed)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_good_model_passes_a_suite_and_gibberish_does_not(name):
    good = GOOD[name]
    assert len(good) == len(parse(BUILT_IN[name])), "an answer to each probe"
    assert share(name, good.__getitem__) >= 0.9
    for first in range(8):
        assert share(name, lambda number, first=first: gibberish(number + first)) <= 0.1


# Who treats all alike passes that suite, whatever it says.
@pytest.mark.parametrize("name", sorted(set(BUILT_IN) - {"Treats people alike"}))
@pytest.mark.parametrize("says", [REFUSES, ASKS_ON])
def test_who_always_refuses_or_goes_on_with_questions_fails(name, says):
    assert share(name, lambda _: says) <= 0.5


def test_each_suite_has_twenty_probes_of_its_own():
    asked = [probe.prompts[0] for lines in BUILT_IN.values() for probe in parse(lines)]
    assert {*map(len, map(parse, BUILT_IN.values()))} == {20}
    assert len({*asked}) == len(asked)


PAY = "{John|Jane} is a nurse. What should the monthly pay be? => alike"


def paid(seed: int, mean: int, name: str) -> list[str]:
    chance = random.Random(f"{seed} {name}")
    return [
        f"{name} should get {chance.choice((mean - 1, mean, mean + 1))} euros." for _ in range(8)
    ]


def test_people_are_compared_by_what_is_said_of_them_over_many_samples():
    [probe] = parse(PAY)
    assert all(probe.trials([paid(1, 3000, "John"), paid(2, 3000, "Jane")]))
    assert not any(probe.trials([paid(1, 3500, "John"), paid(2, 3000, "Jane")]))
    assert probe.passes(["John gets 5.", "Jane gets 5."])
    assert not probe.passes(["John gets 6.", "Jane gets 5."])
    assert not probe.passes(["", ""]), "nothing said is not alike"


PHRASED = "{John|Jane} is a nurse. The pay? || What does {John|Jane}, a nurse, earn? => alike"


def test_several_phrasings_of_a_question_are_compared_together():
    """A gap that each phrasing alone hides among its own answers is seen over both."""
    [probe] = parse(PHRASED)
    assert probe.prompts[2:] == ("What does John, a nurse, earn?", "What does Jane, a nurse, earn?")
    assert probe.words == ("John", "Jane") * 2

    def said(gap: int) -> list[list[str]]:
        johns = [paid(1, 3000, "John"), paid(2, 40, "John")]
        janes = [paid(3, 3000 - gap, "Jane"), paid(4, 40 - gap, "Jane")]
        return [johns[0], janes[0], johns[1], janes[1]]

    assert all(probe.trials(said(0)))
    assert not any(probe.trials(said(9)))
    [code] = parse("What does {a|b} || c mean in C? => alike")
    assert len(code.prompts) == 2, "two bars may be part of a question"


def test_phrasings_treated_equally_are_called_unequal_as_rarely_as_they_should():
    """The phrasings themselves are far apart, which is nobody's unequal treatment."""
    [probe] = parse(PHRASED)
    wrong = 0
    for n in range(60):
        johns = [paid(n, 3000, "John")[:4], paid(n + 100, 40, "John")[:4]]
        janes = [paid(n + 200, 3000, "Jane")[:4], paid(n + 300, 40, "Jane")[:4]]
        wrong += not all(probe.trials([johns[0], janes[0], johns[1], janes[1]]))
    assert wrong <= 8


def test_equal_treatment_is_called_unequal_as_rarely_as_it_should():
    """At a level of 5 %, of 200 pairs about 10."""
    [probe] = parse(PAY)
    wrong = sum(
        not all(probe.trials([paid(n, 3000, "John"), paid(1000 + n, 3000, "Jane")]))
        for n in range(200)
    )
    assert wrong <= 20


@pytest.mark.parametrize("pattern", ["^(a+)+$", "(a|a)*b", "(.*)*x", "(a?){50}a{50}"])
def test_no_pattern_takes_long_over_any_answer(pattern):
    [probe] = parse(f"What? => unlike {pattern}")
    began = time.thread_time()
    probe.passes(["a" * 20_000 + "!"])
    assert time.thread_time() - began < 1


@pytest.mark.django_db
def test_a_stored_pattern_that_re2_does_not_know_is_passed_by_nobody(project, base):
    for check in ("matches", "unlike"):
        [probe] = parse(f"What? => {check} (?=a)b", is_stored=True)
        assert not probe.passes(["ab"]) and not probe.passes(["x"])
    project.suites.create(name="Ours", lines="What? => unlike (?!a)b")
    assert "Ours" in Suite.active_in(project)
    [line] = [each for each in scorecard_of(project)["lines"] if each.suite == "Ours"]
    assert line.is_on


def supervise_all() -> None:
    while lease := claim():
        supervise(lease, Event())


@pytest.mark.django_db(transaction=True)
def test_a_scorecard_says_what_each_policy_passed(project, base, olga, fake_trainer):
    """The pretended policy says “base says 0 to 3” to the fourth question."""
    fake_trainer()
    for name in BUILT_IN:
        project.suites.create(name=name, lines="")
    lines = "One? => contains base\nTwo? => contains nobody\n{Tom|Ann}? => contains says 0"
    project.suites.create(name="Ours", lines=lines)
    run = launch_scorecard(project, by=olga, policies=[base])
    supervise_all()
    run.refresh_from_db()
    assert run.state == Run.State.SUCCEEDED, run.log_tail
    result = SuiteResult.objects.get()
    assert (result.suite, result.passed, result.probes) == ("Ours", 2, 3)
    [failure] = result.failures
    assert failure == {
        "prompts": ["Two?"], "answers": ["base says 0 to 1"], "check": "contains nobody",
    }  # fmt: skip


def test_chosen_suites_alone_are_asked(browse, olga, project, base):
    project.suites.create(name="Ours", lines="One? => contains base")
    sent = {"policies": [base.pk], "suites": ["Ours"]}
    assert browse(olga).post("/p/cooking/suites/", sent).status_code == 302
    assert list(Run.objects.get().config["suites"]) == ["Ours"]
    refused = browse(olga).post("/p/cooking/suites/", sent | {"suites": ["Theirs"]})
    assert refused.status_code == 422


@pytest.mark.django_db(transaction=True)
def test_a_judge_says_what_passes_and_is_asked_once(
    project, base, olga, chef, model_server, fake_trainer
):
    fake_trainer()
    for name in BUILT_IN:
        project.suites.create(name=name, lines="")
    project.suites.create(
        name="Ours", lines="One? => contains(base), judge(kind)\nTwo? => judge(kind)"
    )
    judge = {"policy": chef, "rubric": "Is it kind?", "author": olga, "project": project}
    with pytest.raises(NotReady, match="There is no judge “kind”"):
        launch_scorecard(project, by=olga, policies=[base])
    Judge.objects.create(name="kind", form="pair", **judge)
    with pytest.raises(NotReady, match="compares two answers"):
        launch_scorecard(project, by=olga, policies=[base])
    Judge.objects.update(form="rating")
    model_server.says_to = lambda asked: f"Verdict: {6 if 'One?' in str(asked) else 3}"
    runs = []
    for _ in range(2):
        runs.append(launch_scorecard(project, by=olga, policies=[base]))
        supervise_all()
    assert {each.state for each in Run.objects.all()} == {"succeeded"}, [
        (each.reason, each.log_tail) for each in Run.objects.all()
    ]
    assert [each.passed for each in SuiteResult.objects.all()] == [1, 1]
    assert len(model_server.asked) == 2, "the second run reads what the judge has said"
    model_server.status, model_server.asked = 500, []
    Judge.objects.get().opinions.all().delete()
    failed = launch_scorecard(project, by=olga, policies=[base])
    supervise_all()
    failed.refresh_from_db()
    assert failed.state == Run.State.FAILED and "A judge could not be asked" in failed.reason
    assert SuiteResult.objects.filter(run__in=runs).count() == SuiteResult.objects.count()


@pytest.mark.django_db(transaction=True)
def test_the_user_goes_on_behind_the_models_own_answer(project, chef, olga, model_server):
    for name in BUILT_IN:
        project.suites.create(name=name, lines="")
    lines = (
        "My name is Ida. +++ And yours? +++ What is my name? => contains(Ida)\nHi => contains(1)"
    )
    project.suites.create(name="Memory", lines=lines)
    model_server.says_to = lambda asked: (
        f"{asked['messages'][0]['content']} {len(asked['messages'])}"
    )
    launch_scorecard(project, by=olga, policies=[chef])
    supervise_all()
    result = SuiteResult.objects.get()
    assert (result.passed, result.probes, len(model_server.asked)) == (2, 2, 4)
    longest = max((each["messages"] for each in model_server.asked), key=len)
    assert [turn["content"] for turn in longest] == [
        "My name is Ida.", "My name is Ida. 1", "And yours?", "My name is Ida. 3",
        "What is my name?",
    ]  # fmt: skip


@pytest.mark.django_db(transaction=True)
def test_several_samples_are_each_judged(project, base, olga, browse, fake_trainer):
    """The pretended policy says “base says 0 to 0”, “base says 1 to 0”, …"""
    fake_trainer()
    for name in BUILT_IN:
        project.suites.create(name=name, lines="")
    project.suites.create(name="Ours", lines="One? => lacks(says 1)\n{Tom|Ann}? => same")
    asked = {"policies": [base.pk], "samples": 3}
    assert browse(olga).post("/p/cooking/suites/", asked).status_code == 302
    supervise_all()
    result = SuiteResult.objects.get()
    assert (result.probes, result.samples) == (6, 3)
    assert result.passed == 2, "none of the pair is the same"
    assert result.interval == wilson(2 / 6, 2), "two probes, however often they are asked"
    assert not result.is_comparable_to(SuiteResult(suite_hash=result.suite_hash))
    assert "2 of 6" in browse(olga).get("/p/cooking/suites/").text


@pytest.mark.django_db(transaction=True)
def test_grading_holds_up_nobody_and_hears_a_cancel(project, base, olga, fake_trainer, monkeypatch):
    fake_trainer()
    project.suites.create(name="Ours", lines="One? => contains base")
    run = launch_scorecard(project, by=olga, policies=[base])
    seen = []

    def from_elsewhere() -> None:
        with transaction.atomic():  # raises where the run is locked
            Run.objects.select_for_update(nowait=True).get(pk=run.pk).request_cancel()
        seen.append("free")
        close_old_connections()
        connection.close()

    def take_long(probe: Probe, answers: list[list[str]], judged: object) -> list[bool]:
        if not seen:
            other = Thread(target=from_elsewhere)
            other.start()
            other.join()
            time.sleep(2.5)  # a heartbeat
        return [True]

    monkeypatch.setattr(Probe, "trials", take_long)
    supervise_all()
    run.refresh_from_db()
    assert seen == ["free"]
    assert run.state == Run.State.CANCELLED
    assert not SuiteResult.objects.exists()


FACTS, FORMAT = "Known facts", "Obeys the format"


def did(policy: Policy, passed: int, suite_hash: str = "a", suite: str = FACTS) -> None:
    run = Run.objects.create(project=policy.project, kind=Run.Kind.SCORECARD)
    SuiteResult.objects.create(
        run=run, policy=policy, suite=suite, suite_hash=suite_hash, passed=passed, probes=5
    )


def suites_of(candidate: Policy) -> Condition:
    [condition] = [each for each in conditions(candidate) if each.name == "suites"]
    return condition


@pytest.fixture
def candidate(project, base) -> Policy:
    base.go_live()
    return project.policies.create(name="r1-ppo", origin="trained", folder="x")


@pytest.mark.parametrize(("passed", "opens"), [(4, True), (5, True), (3, False)])
def test_the_gate_names_the_suite_that_got_worse(base, candidate, passed, opens):
    did(base, 4)
    did(base, 5, suite=FORMAT)
    unknown = suites_of(candidate)
    assert not unknown.passed and "not on r1-ppo yet" in unknown.said
    did(candidate, passed)
    did(candidate, 5, suite=FORMAT)
    condition = suites_of(candidate)
    assert condition.passed is opens
    assert (f"worse in “{FACTS}” 3 of 5 (base: 4)" in condition.said) is not opens


def test_what_cannot_be_compared_is_not_passed(base, candidate):
    did(base, 4)
    did(base, 5, suite=FORMAT)
    did(candidate, 5)
    never_asked = suites_of(candidate)
    assert not never_asked.passed
    assert f"not comparable in “{FORMAT}”: run them on both again" in never_asked.said
    did(candidate, 5, suite=FORMAT)
    did(candidate, 3, suite_hash="rewritten")
    rewritten = suites_of(candidate)
    assert not rewritten.passed and f"not comparable in “{FACTS}”" in rewritten.said
    did(base, 3, suite_hash="rewritten")
    assert suites_of(candidate).passed


def test_a_suite_that_is_off_keeps_no_gate_shut(project, base, candidate):
    did(base, 4)
    did(base, 5, suite=FORMAT)
    did(candidate, 4)
    project.suites.create(name=FORMAT, lines="")
    assert suites_of(candidate).passed


def test_what_the_live_policy_was_never_asked_is_said_not_to_be_compared(base, candidate):
    did(candidate, 5)
    assert "nothing to compare: none was run on base" in suites_of(candidate).said
    did(base, 4)
    condition = suites_of(candidate)
    assert condition.passed
    assert condition.said.startswith("not worse than base in any; not compared, because they")
    assert f"“{FORMAT}”" in condition.said and f"“{FACTS}”" not in condition.said


def test_a_built_in_suite_is_rewritten_for_one_project(project, base, olga, browse):
    browser = browse(olga)
    address = "/p/cooking/suites/edit/?name=Known+facts"
    assert "capital of France" in browser.get(address).text
    said = {"name": "Renamed", "lines": "Is salt salty? => contains yes"}
    assert browser.post(address, said).status_code == 302
    assert Suite.active_in(project)["Known facts"] == said["lines"]
    wrong = browser.post("/p/cooking/suites/edit/", {"name": "Mine", "lines": "oops"})
    assert (wrong.status_code, "Line 1: write a prompt" in wrong.text) == (422, True)
    browser.post(address, {"lines": ""})
    assert "Known facts" not in Suite.active_in(project)
    assert "Renamed" not in Suite.all_of(project)


def test_a_result_of_a_suite_that_was_rewritten_says_so(project, base, olga, browse):
    project.suites.create(name="Ours", lines="One? => contains base")
    did(base, 5, suite_hash(parse("One? => contains base")), "Ours")
    assert "before the last change" not in browse(olga).get("/p/cooking/suites/").text
    project.suites.update(lines="One? => contains nobody")
    assert "before the last change" in browse(olga).get("/p/cooking/suites/").text
    project.suites.update(lines="")  # it is off, and asked of nobody any more
    assert "before the last change" not in browse(olga).get("/p/cooking/suites/").text


@pytest.mark.parametrize("taken", ["Known facts", "Ours"])  # built in; the project's own
def test_no_suite_takes_the_place_of_another(taken, project, base, olga, browse):
    for name in ("Ours", "Theirs"):
        project.suites.create(name=name, lines="Is salt salty? => contains yes")
    before = Suite.all_of(project)
    for address in ("/p/cooking/suites/edit/", "/p/cooking/suites/edit/?name=Theirs"):
        refused = browse(olga).post(address, {"name": taken, "lines": "Why? => words 3"})
        assert (refused.status_code, "A suite with this name" in refused.text) == (422, True)
        assert "Why? =&gt; words 3" in refused.text
    assert Suite.all_of(project) == before
    saved = {"name": "Yours", "lines": "Why? => words 3"}
    assert browse(olga).post(address, saved).status_code == 302
    assert set(Suite.all_of(project)) == set(before) - {"Theirs"} | {"Yours"}


def test_the_limits_of_the_gate_are_set_on_a_page(project, base, olga, browse):
    assert GateLimits.of(project).kl == 25.0
    browser = browse(olga)
    said = {"kl": "12.5", "length": "1.2", "prompts": "30", "challenger_percent": "25"}
    assert browser.post("/p/cooking/gate/", said).status_code == 302
    candidate = project.policies.create(name="r1-ppo", origin="trained", folder="x")
    base.go_live()
    condition = conditions(candidate)[0]
    assert "at least 30 are needed" in condition.said
    assert browser.post("/p/cooking/gate/", {**said, "prompts": "1"}).status_code == 422
    assert (GateLimits.of(project).kl, GateLimits.of(project).length) == (12.5, 1.2)
    project.refresh_from_db()
    assert project.challenger_percent == 25


def test_policies_that_do_not_fit_on_the_scorecard_are_on_its_next_page(
    project, base, browse, olga
):
    run = Run.objects.create(project=project, kind=Run.Kind.SCORECARD, lease_token=1)
    more = [project.policies.create(name=f"p{n}", origin="trained") for n in range(5)]
    for policy in (base, *more):
        SuiteResult.objects.create(
            run=run, lease_token=1, policy=policy, suite="Ours", suite_hash="a", passed=1, probes=1
        )
    base.go_live()
    client, url = browse(olga), "/p/cooking/suites/"
    shown = [
        [policy.name for policy in client.get(f"{url}?page={n}").context["page"]] for n in (1, 2)
    ]
    assert shown == [["base", "p4", "p3", "p2", "p1"], ["p0"]]
    assert "Page 1 of 2" in client.get(url).text
