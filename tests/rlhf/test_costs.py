"""What policies, runs and labels cost, and when a training has paid for itself."""

import csv
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from annotate.costs.labels import labeled
from annotate.costs.totals import times, together, totals
from annotate.models import Call, Completion, Connection, Demonstration, Policy, Ranking
from annotate.templatetags.show import money
from rlhf.costs.break_even import BreakEven, paying
from rlhf.costs.page import costs_page
from rlhf.costs.runs import runs_behind, seconds_of_labels, spent_on
from rlhf.models import Checkpoint, Round, Run, Snapshot, TrainedPolicy
from rlhf.stages.kinds.sample import DISTILLED_BY


def call(policy, **fields):
    told = {"use": "chat", "outcome": "answered", "tokens_in": 100, "tokens_out": 20}
    return Call(project=policy.project, policy=policy, **{**told, **fields})


@pytest.fixture
def calls(policy):
    return Call.objects.bulk_create(
        [
            *(
                call(policy, first_ms=10 * n, total_ms=100 * n, price=Decimal("0.002"))
                for n in range(1, 100)
            ),
            call(policy, outcome="failed", total_ms=9_000_000, price=Decimal("0.002")),
            call(policy, use="grid", price=None, first_ms=500, total_ms=5000),
        ]
    )


def test_totals_count_what_failed_in_the_price_and_not_in_the_times(policy, calls):
    total = totals(Call.objects.for_use("chat"), "policy")[policy.pk]
    assert (total.calls, total.answered, total.failed, total.stopped) == (100, 99, 1, 0)
    assert (total.tokens_in, total.tokens_out) == (10_000, 2_000)
    took = times(Call.objects.for_use("chat"), "policy", among={})[policy.pk]
    assert (took.first.p50, took.whole.p50) == (500, 5000)
    assert (took.first.p95, took.whole.p95) == pytest.approx((941, 9410))
    assert total.price == Decimal("0.2")
    assert total.price_of_1000 == Decimal("0.2") * 1000 / 99


def test_of_many_calls_one_in_so_many_is_measured_spread_evenly(policy, calls, monkeypatch):
    monkeypatch.setattr("annotate.costs.totals.MEASURED", 25)
    found = totals(Call.objects.for_use("chat"), "policy")
    took = times(Call.objects.for_use("chat"), "policy", among=found)[policy.pk]
    assert took.first.p50 == pytest.approx(500, abs=40)
    assert totals(Call.objects.all(), "policy")[policy.pk].calls == 101


def test_what_is_added_up_is_what_would_be_counted_at_once(policy, calls):
    by_use = totals(Call.objects.all(), "policy", "use")
    assert together(by_use.values()) == totals(Call.objects.all(), "policy")[policy.pk]
    assert together([]).price is None


def test_a_call_of_no_known_price_is_left_out_of_the_price_of_1000(policy, calls):
    total = totals(Call.objects.all(), "policy")[policy.pk]
    assert (total.answered, total.priced) == (100, 99)
    assert total.price_of_1000 == Decimal("0.2") * 1000 / 99
    assert totals(Call.objects.for_use("grid"), "use")["grid"].price_of_1000 is None


@pytest.mark.parametrize(
    ("teacher", "student", "training", "given", "answers", "has_paid", "left"),
    [
        ("20", "5", "30", 0, 2000, False, 2000),  # 15 saved on 1,000
        ("20", "5", "30", 1999, 2000, False, 1),
        ("20", "5", "30", 2000, 2000, True, 0),
        ("20", "5", "30.01", 0, 2001, False, 2001),
        ("3", "0", "1", 0, 334, False, 334),  # not 333.33
        ("20", "5", "0", 0, 0, True, 0),
        ("5", "5", "0", 7, 0, True, 0),
        ("5", "5", "1", 7, None, False, None),
        ("5", "20", "0", 7, None, False, None),
        (None, "5", "1", 7, None, False, None),
        ("20", None, "1", 7, None, False, None),
        ("20", "5", None, 7, None, False, None),
    ],
)
def test_a_training_has_paid_after_exactly_so_many_answers(
    teacher, student, training, given, answers, has_paid, left
):
    prices = (None if each is None else Decimal(each) for each in (teacher, student, training))
    even = BreakEven(*prices, given)
    assert (even.answers, even.has_paid, even.left) == (answers, has_paid, left)
    assert even.is_known == (None not in (teacher, student, training))


@pytest.fixture
def taught(project, policy, olga, alice, new_prompt):
    """A student whose SFT took two hours, on one answer of a teacher behind a connection and on a
    demonstration that alice wrote in ten minutes; the teacher's answers cost 0.25."""
    server = Connection.objects.create(
        project=project, name="Cooks", base_url="https://cooks.example/v1", price_in=3, price_out=15
    )
    said = {"project": project, "origin": Policy.Origin.PROMPTED, "model_name": "cook-1"}
    teacher = Policy.objects.create(name="teacher", connection=server, **said)
    asked = Run.objects.create(project=project, kind="sample", state="succeeded")
    Call.objects.bulk_create(
        [
            call(teacher, use="sampling", run=asked.pk, price=Decimal("0.25")),
            call(teacher, use="sampling"),
        ]
    )
    round = Round.objects.create(
        project=project, number=1, recipe="tiny", base=policy, launched_by=olga
    )
    began = timezone.now() - timedelta(hours=3)
    sft = Run.objects.create(
        project=project, round=round, kind="sft", state="succeeded",
        started_at=began, worked=timedelta(hours=2),
    )  # fmt: skip
    later = Run.objects.create(
        project=project, round=round, kind="evaluate", position=1, state="succeeded",
        started_at=began, worked=timedelta(hours=9),
    )  # fmt: skip
    prompt = new_prompt()
    work = project.tasks.create(prompt=prompt, kind="write").assignments.create(
        labeler=alice, leased_until=timezone.now(), state="submitted", active_seconds=600,
        ended_at=timezone.now(),
    )  # fmt: skip
    written = Demonstration.objects.create(
        prompt=prompt, labeler=alice, text="Eight minutes.", assignment=work
    )
    distilled = Demonstration.objects.create(
        prompt=prompt, labeler=olga, text="Boil it.", distilled_from=teacher,
        source=f"{DISTILLED_BY}{asked.pk}",
    )  # fmt: skip
    snapshot = Snapshot.objects.create(project=project, run=sft, sha256="0" * 64, counts={})
    snapshot.demonstrations.set([written, distilled])
    student = Policy.objects.create(
        project=project, name="student", origin="trained", parent=policy, folder="runs/1/final"
    )
    checkpoint = Checkpoint.objects.create(
        run=sft, step=1, folder="runs/1/final", manifest_sha256="0" * 64, is_final=True
    )
    TrainedPolicy.objects.create(policy=student, checkpoint=checkpoint)
    project.machine_price = Decimal("1.5")
    project.wage = Decimal(12)
    project.save()
    return teacher, student, sft, asked, later


def test_a_training_costs_its_machine_and_the_answers_it_learnt_from(taught):
    _, student, sft, asked, _ = taught
    runs = runs_behind(student)
    assert {run.pk for run in runs} == {sft.pk, asked.pk}
    spent = spent_on(student.project, runs)
    assert spent[sft.pk].cost == Decimal(3)  # two hours at 1.5
    assert spent[asked.pk].calls == Decimal("0.25")
    assert seconds_of_labels(runs) == 600


def test_break_even_is_exact_on_fixed_prices(taught):
    teacher, student, _, asked, _ = taught
    Call.objects.of_runs([asked.pk]).delete()
    Call.objects.bulk_create(
        [
            *(
                call(teacher, price=Decimal("0.02"), run=asked.pk, use="sampling")
                for _ in range(50)
            ),
            *(call(student, price=Decimal("0.005")) for _ in range(10)),
        ]
    )
    found = paying(teacher, student, calls=Call.objects.all(), with_labels=False)
    assert found.even.teacher == 20
    assert found.even.student == 5
    assert found.even.training == Decimal(4)  # 3 of the machine, 50 answers at 0.02
    assert (found.even.answers, found.even.given, found.even.left) == (267, 10, 257)
    with_labels = paying(teacher, student, calls=Call.objects.all(), with_labels=True)
    assert with_labels.even.training == Decimal(6)  # ten minutes at 12 an hour
    assert with_labels.even.answers == 400
    assert found.quality is None


def test_what_is_not_known_is_named_with_what_to_do(taught):
    teacher, student, *_ = taught
    project = student.project
    project.machine_price = project.wage = None
    project.save()
    Connection.objects.update(price_in=None)
    Call.objects.bulk_create([call(student)])
    for each in (teacher, student):
        each.refresh_from_db()
    Call.objects.filter(policy=teacher).delete()
    found = paying(teacher, student, calls=Call.objects.all(), with_labels=True)
    assert not found.even.is_known
    said = " ".join(found.missing)
    assert "teacher gave no answer in this period" in said
    assert "what an answer of student costs. Set “Price of a machine hour”" in said
    assert "what the training of student cost" in said
    assert "Set “Wage per hour”" in said
    Call.objects.bulk_create([call(teacher)])
    found = paying(teacher, student, calls=Call.objects.all(), with_labels=False)
    assert "Set both prices of the connection Cooks" in " ".join(found.missing)


def compared(project, policies, alice, new_prompt, *, wins):
    """People rank both policies' answers to as many held-out prompts as there are wins."""
    for number, won in enumerate(wins):
        prompt = new_prompt(f"Which one? {number}")
        type(prompt).objects.filter(pk=prompt.pk).update(split="test")
        said = [
            Completion.objects.create(
                prompt=prompt, policy=each, text=f"{each} says {number}", source="sampled"
            )
            for each in policies
        ]
        ranking = Ranking.objects.create(prompt=prompt, labeler=alice)
        for place, completion in enumerate(said if won else said[::-1], start=1):
            ranking.placements.create(completion=completion, place=place)


def test_the_page_shows_each_price_beside_the_judgement_of_people_and_its_interval(
    taught, alice, olga, browse, new_prompt
):
    teacher, student, *_ = taught
    project = student.project
    teacher.go_live()
    project.currency = "EUR"
    project.save()
    compared(project, [student, teacher], alice, new_prompt, wins=[True] * 3 + [False] * 5)
    Call.objects.bulk_create(
        [call(student, price=Decimal("0.005"), first_ms=80, total_ms=1500) for _ in range(10)]
    )
    asked = f"?teacher={teacher.pk}&student={student.pk}"
    page = browse(olga).get(f"/p/cooking/costs/{asked}").content.decode()
    words = " ".join(page.split())
    assert "5.00" in words and "EUR" in words and "80 ms / 80 ms" in words
    assert "on 8 prompts" in words and "against teacher" in words
    assert "pays off after" in words
    assert "+12.5" in words  # of 50 %, with 3 of 8 won


def test_a_round_says_what_a_point_of_its_win_rate_cost(
    taught, policy, alice, olga, browse, new_prompt
):
    _, student, *_ = taught
    project = student.project
    [cost] = costs_page(project, since=None, use="")["rounds"]
    assert (cost.people, cost.a_point) == (None, None)
    compared(project, [student, policy], alice, new_prompt, wins=[True] * 6 + [False] * 2)
    [cost] = costs_page(project, since=None, use="")["rounds"]
    # Ten minutes of labels at 12 an hour, and eleven hours of a machine at 1.5: for 25 points.
    assert (cost.people.win_rate, cost.labels, cost.spent.cost) == (0.75, 2, Decimal("16.5"))
    assert cost.a_point is None, "six of eight may be chance"
    page = " ".join(browse(olga).get("/p/cooking/costs/").text.split())
    assert "75% <span" in page and "on 8 prompts" in page
    won = replace(cost, people=replace(cost.people, low=0.51))
    assert won.a_point == Decimal("0.74")
    assert replace(won, labels=None).a_point is None


def test_the_page_says_what_to_do_while_there_is_nothing(olga, browse, project):
    page = browse(olga).get("/p/cooking/costs/").content.decode()
    assert "No calls in this period" in page and "playground" in page
    assert "Nobody labeled in this period" in page


@pytest.mark.parametrize(
    "query", ["?days=x&use=y", "?days=99999999999", "?teacher=1&student=", "?teacher=0&student=x"]
)
def test_an_odd_address_shows_the_page_all_the_same(olga, browse, project, query):
    assert browse(olga).get(f"/p/cooking/costs/{query}").status_code == 200
    assert browse(olga).get(f"/p/cooking/costs/costs.csv{query}").status_code == 200
    assert browse(olga).get(f"/p/cooking/production/{query}").status_code == 200


def test_a_policy_is_not_compared_with_itself(olga, browse, policy):
    asked = f"?teacher={policy.pk}&student={policy.pk}"
    page = browse(olga).get(f"/p/cooking/costs/{asked}").content.decode()
    assert "Choose two different policies." in page


def test_with_nothing_chosen_the_comparison_says_what_to_choose(olga, browse, policy):
    client, sentence = browse(olga), "Choose both: a prompted teacher and a trained student."
    for asked in ("teacher=&student=", f"teacher={policy.pk}&student=", "teacher=0&student=x"):
        assert sentence in client.get(f"/p/cooking/costs/?{asked}").text
    assert sentence not in client.get("/p/cooking/costs/").text


def test_the_table_as_csv_has_a_row_for_each_policy_and_use(olga, browse, policy, calls):
    Policy.objects.filter(pk=policy.pk).update(name="=cmd()")
    reply = browse(olga).get("/p/cooking/costs/costs.csv")
    header, *rows = csv.reader(reply.content.decode().splitlines())
    found = [dict(zip(header, row, strict=True)) for row in rows]
    assert [(each["policy"], each["asked by"], each["answers"]) for each in found] == [
        ("'=cmd()", "Chat", "99"),
        ("'=cmd()", "playground", "1"),
    ]
    assert Decimal(found[0]["price"]) == Decimal("0.2")


def test_labels_are_summed_by_kind_and_cost_their_time_at_the_wage(taught, project):
    project.wage = None
    (written,) = labeled(project, None)
    assert (written.kind, written.answers, written.seconds) == ("write", 1, 600)
    assert (written.cost, written.cost_each) == (None, None)
    project.wage = Decimal(12)
    assert labeled(project, timezone.now() - timedelta(hours=1))[0].cost == Decimal(2)
    assert labeled(project, timezone.now() + timedelta(hours=1)) == []


def test_the_pages_ask_as_often_for_many_policies_as_for_few(
    olga, browse, project, calls, policy, django_assert_max_num_queries
):
    page = browse(olga)
    page.get("/p/cooking/costs/")
    for number in range(20):
        other = Policy.objects.create(project=project, name=f"p{number}", origin="base")
        Call.objects.bulk_create([call(other, total_ms=5) for _ in range(3)])
    with django_assert_max_num_queries(20):
        assert "p19" in page.get("/p/cooking/costs/").content.decode()
    with django_assert_max_num_queries(20):
        assert "p19" in page.get("/p/cooking/production/").content.decode()


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (None, "–"),
        (Decimal(0), "0.00"),
        (Decimal("0.4"), "0.40"),
        (Decimal("0.0135"), "0.014"),
        (Decimal("-0.00123"), "-0.0012"),
        (Decimal("1234.5"), "1,234.50"),
    ],
)
def test_an_amount_is_shown_with_two_digits_that_say_something(amount, shown):
    assert money(amount) == shown


def test_the_total_of_rounds_is_of_all_and_the_page_says_how_many_it_shows(
    project, taught, browse, olga, monkeypatch
):
    project.machine_price = 1
    project.save()
    monkeypatch.setattr("rlhf.costs.page.ROUNDS", 1)
    old = Round.objects.get()
    page = "/p/cooking/costs/"
    assert "are shown" not in browse(olga).get(page).text
    Round.objects.create(project=project, number=2, recipe="tiny", base=old.base, launched_by=olga)
    shown = costs_page(project, since=None, use="")
    assert [each.round.number for each in shown["rounds"]] == [2]
    assert shown["all_rounds"].seconds == 11 * 3600
    html = " ".join(browse(olga).get(page).text.split())
    assert "Total of 2 rounds" in html and "1 of 2 rounds are shown" in html
