from threading import Event

import pytest
from django.core.exceptions import ValidationError

from annotate.models import Policy
from rlhf.gate import conditions
from rlhf.leases import claim
from rlhf.models import GateLimits, Run, Suite, SuiteResult
from rlhf.scorecard import launch_scorecard
from rlhf.suites import BUILT_IN, parse
from rlhf.supervisor import supervise

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
        ("What? => like it", "no check “like”"),
        ("What? => contains", "needs to be told what"),
        ("What? => words few", "whole number"),
        ("What? => matches (", "the pattern is wrong"),
        ("What? => same", "needs a prompt with"),
        ("{a|b} or {c|d}? => same", "only one"),
    ],
)
def test_a_bad_line_is_named_with_what_to_do(line, told):
    with pytest.raises(ValidationError) as refused:
        parse(f"# a remark\nWhat? => json\n{line}")
    [message] = refused.value.messages
    assert message.startswith("Line 3: ") and told in message


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_built_in_suites_can_be_asked(name):
    assert len(parse(BUILT_IN[name])) > 1


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


def did(policy: Policy, run: Run, passed: int, suite_hash: str = "a", suite: str = "Facts") -> None:
    SuiteResult.objects.create(
        run=run, policy=policy, suite=suite, suite_hash=suite_hash, passed=passed, probes=5
    )


@pytest.mark.parametrize(
    ("passed", "suite_hash", "opens"),
    [(4, "a", True), (5, "a", True), (3, "a", False), (3, "rewritten", True)],
)
def test_the_gate_names_the_suite_that_got_worse(project, base, passed, suite_hash, opens):
    base.go_live()
    run = Run.objects.create(project=project, kind=Run.Kind.SCORECARD)
    candidate = project.policies.create(name="r1-ppo", origin="trained", folder="x")
    did(base, run, 4)
    did(base, run, 5, suite="Format")
    [unknown] = [each for each in conditions(candidate) if each.name == "suites"]
    assert not unknown.passed and "not of r1-ppo yet" in unknown.said
    did(candidate, run, passed, suite_hash)
    did(candidate, run, 5, suite="Format")
    [condition] = [each for each in conditions(candidate) if each.name == "suites"]
    assert condition.passed is opens
    assert ("“Facts” 3 of 5 (base: 4)" in condition.said) is not opens


def test_a_built_in_suite_is_rewritten_for_one_project(project, base, olga, browse):
    browser = browse(olga)
    page = browser.get("/p/cooking/suites/edit/", {"name": "Known facts"})
    assert "capital of France" in page.text
    said = {"name": "Known facts", "lines": "Is salt salty? => contains yes"}
    assert browser.post("/p/cooking/suites/edit/", said).status_code == 302
    assert Suite.active_in(project)["Known facts"] == said["lines"]
    wrong = browser.post("/p/cooking/suites/edit/", {"name": "Mine", "lines": "oops"})
    assert (wrong.status_code, "Line 1: write a prompt" in wrong.text) == (422, True)
    browser.post("/p/cooking/suites/edit/", {"name": "Known facts", "lines": ""})
    assert "Known facts" not in Suite.active_in(project)


def test_the_limits_of_the_gate_are_set_on_a_page(project, base, olga, browse):
    assert GateLimits.of(project).kl == 25.0
    browser = browse(olga)
    said = {"kl": "12.5", "length": "1.2", "prompts": "30", "challenger_percent": "25"}
    assert browser.post("/p/cooking/gate/", said).status_code == 302
    candidate = project.policies.create(name="r1-ppo", origin="trained", folder="x")
    base.go_live()
    [condition] = conditions(candidate)
    assert "30 are the fewest" in condition.said
    assert browser.post("/p/cooking/gate/", {**said, "prompts": "1"}).status_code == 422
    assert (GateLimits.of(project).kl, GateLimits.of(project).length) == (12.5, 1.2)
    project.refresh_from_db()
    assert project.challenger_percent == 25
