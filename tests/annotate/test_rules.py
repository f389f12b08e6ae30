"""Rules of prompting, tried on a model that follows what it is told and on one that does not."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from annotate import jobs
from annotate.labels.agreement import wilson
from annotate.models import Grid
from annotate.playground.rules import RULES, tried, try_rules
from feedback_site.answer_checks.written import read_checks

PAGE = "/p/cooking/playground/rules/"
# One answer with the rule and one without, to the first test prompt of each.
ANSWERS = {
    "Delimiters": ("BANANA", "The library is shut on Friday for work on its roof."),
    "Structured output": ("Paris, France.", '{"city": "Paris", "country": "France"}'),
    "Check the conditions": ("First boil the water.", "Step 1: Boil the water."),
    "Examples": ("How nice! Which cake was it?", "Verdict: good"),
    "Specify the steps": ("48", "6 eggs, 7 boxes, 6 x 7. Answer: 42"),
    "Specified format": ("Maria is eight.", "Name: Maria\nAge: 8"),
    "Own solution first": ("Wrong", "5 x 2 = 10. Correct"),
    "Ground in the text": ("In the 19th century.", "In 1820."),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_checks_of_a_rule_tell_the_answers_apart(rule):
    checks = [each.check for each in read_checks(rule.checks)]
    right = next(iter(rule.tests.values()))
    without, given = (
        all(check.score(answer, right) == 1 for check in checks) for answer in ANSWERS[rule.name]
    )
    assert (without, given) == (False, True)
    assert len(rule.tests) >= 6
    for template in (rule.without, rule.given):
        assert template.prompt_format.count("{prompt}") == 1


@pytest.mark.django_db(transaction=True)
def test_the_rules_are_tried_on_a_model(browse, olga, live, project, model_server):
    client = browse(olga)
    assert "No model has been tried yet." in client.get(PAGE).text
    assert "Choose at least one model." in client.post(PAGE, {"samples": 1}).text
    assert client.post(PAGE, {"policies": [live.pk], "samples": 2}).status_code == 302
    assert Grid.objects.count() == len(RULES)
    assert "is asked" in client.get(PAGE).text
    model_server.says = ["Verdict: ", "good"]
    while jobs.look():
        pass
    assert len(model_server.asked) == sum(len(rule.tests) for rule in RULES) * 4
    policies, lines = tried(project)
    assert policies == [live]
    [examples] = [each for rule, [each] in lines if rule.name == "Examples"]
    assert (examples.without.share, examples.given.share) == (0.5, 0.5)
    assert (examples.given.low, examples.given.high) == wilson(0.5, 6), "six prompts, not twelve"
    page = client.get(PAGE).text
    assert "50% → 50%" in page and "hx-trigger" not in page
    assert "Examples" not in client.get("/p/cooking/playground/").text.split("Earlier grids")[1]


def test_the_words_of_a_rule_stand_around_the_prompt(olga, live, project):
    first = try_rules(project, author=olga, policies=[live], samples=1)[0]
    assert first.column(1).system_prompt == "You are a cook."
    asked = first.policy(1).messages_for(first.row(0).messages)
    assert asked[-1]["content"].startswith("Sum up the text") and '"""The library' in str(asked)


@pytest.mark.django_db(transaction=True)
def test_the_command_prints_a_line_for_each_rule(olga, live, model_server, monkeypatch):
    model_server.says = ["Verdict: ", "good"]
    model_server.usage = {"prompt_tokens": 9, "completion_tokens": 3}
    monkeypatch.setattr("annotate.playground.rules.RULES", RULES[3:5])
    out = StringIO()
    asked = ("try_rules", "--project", "cooking", "--policy", "cook")
    with pytest.raises(CommandError, match="is called “nobody”"):
        call_command(*asked, "--policy", "nobody")
    assert not Grid.objects.exists()
    call_command(*asked, stdout=out, stderr=StringIO())
    assert out.getvalue().splitlines() == [
        "| rule | cook |",
        "|---|---|",
        "| Examples | 50% [19%, 81%], 3 tokens → 50% [19%, 81%], 3 tokens |",
        "| Specify the steps | 0% [0%, 39%], 3 tokens → 0% [0%, 39%], 3 tokens |",
    ]


OWN = {
    "act": "keep",
    "name": "Say  please",
    "meaning": "Ask politely.",
    "without": "{prompt}",
    "given": "Please: {prompt}",
    "few_shot": "User: 1 + 1\nAssistant: 2",
    "checks": "number",
    "tests": "1 + 2 == 3\n\n2 + 2 == 4\n",
}


@pytest.mark.django_db(transaction=True)
def test_a_rule_of_ones_own_is_tried_beside_the_others_till_it_is_removed(
    browse, olga, live, project, model_server, monkeypatch
):
    monkeypatch.setattr("annotate.playground.rules.RULES", RULES[3:4])
    client = browse(olga)
    assert client.post(PAGE, OWN).status_code == 302
    assert client.post(PAGE, {**OWN, "tests": "1 + 2 == 3\n2 + 2 == 4\n5 == 5"}).status_code == 302
    assert "“Say please” is a rule now." in client.get(PAGE).text
    assert client.post(PAGE, {"policies": [live.pk]}).status_code == 302
    assert [grid.rule for grid in Grid.objects.order_by("pk")] == ["Examples", "Say please"]
    model_server.says_to = lambda asked: "3" if "Please" in str(asked["messages"]) else "No."
    while jobs.look():
        pass
    _, lines = tried(project)
    [polite] = [each for rule, [each] in lines if rule.name == "Say please"]
    assert (polite.without.share, polite.given.share) == (0, pytest.approx(1 / 3))
    client.post(PAGE, {"act": "remove", "name": "Say please"})
    assert "Say please" not in [rule.name for rule, _ in tried(project)[1]]
    assert Grid.objects.count() == 2, "what was tried stays"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": "Examples"}, "A built-in rule has this name"),
        ({"given": "Please"}, "{prompt}"),
        ({"checks": "kind"}, "there is no check"),
        ({"checks": ","}, "Write a check"),
        ({"few_shot": "User: 1"}, "one after the other"),
        ({"tests": "\n".join(f"{n}?" for n in range(51))}, "not 51"),
    ],
)
def test_a_rule_that_cannot_be_tried_is_refused_with_what_to_do(
    browse, olga, project, changes, told
):
    refused = browse(olga).post(PAGE, OWN | changes)
    assert refused.status_code == 422 and told in refused.text and "Ask politely." in refused.text
    assert not project.rules.exists()
