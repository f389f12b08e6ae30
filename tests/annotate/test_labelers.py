"""What leads see of labelers, and what they do about it."""

import random
import re

import pytest
from django.utils import timezone

from annotate.labelling.queue import next_assignment
from annotate.labels.agreement import Ranked, concordance, is_careless, share_of
from annotate.labels.gold import make_gold
from annotate.models import Assignment, Membership, Placement, Ranking, User, Withdrawal
from annotate.quality import labelers as quality
from annotate.quality.labelers import with_peers
from annotate.quality.reliability import against_the_others, reliabilities, votes_of
from rlhf.data.selection import Filters, rankings
from rlhf.learning.contract import records

LABELERS = "/p/cooking/labelers/"
K = 4


def judged(generator, noise, k=K):
    """The places of k completions of known quality, by somebody whose eye has this much noise."""
    seen = [number + generator.gauss(0, noise) for number in range(k)]
    best_first = sorted(range(k), key=lambda i: -seen[i])
    return {item: place for place, item in enumerate(best_first, start=1)}


CAREFUL, ANYTHING = 1.2, 1e9  # agreement with each other 0.72, 0.50
CAREFUL_OF_TWO = 0.74  # the same agreement, where there are two completions


def flagged_within(tasks, seed, noise, *, k=K, careful=CAREFUL):
    """After how many tasks, each ranked by one careful peer too, the statistic speaks up."""
    generator = random.Random(seed)
    clusters = []
    for number in range(1, tasks + 1):
        met = concordance(judged(generator, noise, k), judged(generator, careful, k))
        clusters.append((met.concordant, met.compared))
        if is_careless(clusters):
            return number
    return None


def test_the_careful_of_the_simulation_agree_like_people():
    generator = random.Random(0)
    met = [concordance(judged(generator, CAREFUL), judged(generator, CAREFUL)) for _ in range(2000)]
    agreed = sum(each.concordant for each in met) / sum(each.compared for each in met)
    assert agreed == pytest.approx(0.726, abs=0.03)


def test_random_answers_are_flagged_within_50_tasks_and_careful_ones_are_not():
    flagged = [flagged_within(50, seed, ANYTHING) is not None for seed in range(100)]
    wronged = [flagged_within(50, seed, CAREFUL) is not None for seed in range(100)]
    assert sum(flagged) >= 95
    assert sum(wronged) <= 5


def test_of_pairs_with_one_peer_the_statistic_is_near_the_best_there_can_be():
    """One look after 50 comparisons finds 95.8 % at 5 % of error, and no test finds more (Neyman
    and Pearson 1933). In 400 simulations four standard errors are 4.4 points."""
    runs = {
        noise: [
            flagged_within(50, seed, noise, k=2, careful=CAREFUL_OF_TWO) is not None
            for seed in range(400)
        ]
        for noise in (ANYTHING, CAREFUL_OF_TWO)
    }
    assert sum(runs[ANYTHING]) / 400 >= 0.91
    assert sum(runs[CAREFUL_OF_TWO]) / 400 <= 0.09


def world(seed, *, prompts, people, k):
    """Rankings of five labelers, three careful, one noisy and one who clicks at random; so many of
    them rank each prompt."""
    generator = random.Random(seed)
    careful, noisy = {2: (CAREFUL_OF_TWO, 1.6), 4: (CAREFUL, 2.6)}[k]
    noises = [careful, careful, careful, noisy, ANYTHING]
    return [
        Ranked(prompt, labeler, judged(generator, noises[labeler], k))
        for prompt in range(prompts)
        for labeler in generator.sample(range(5), people)
    ]


def flagged_in(rankings):
    found = against_the_others(votes_of(rankings))
    return {name for name, each in found.items() if is_careless(each.clusters, each.wanted)}


@pytest.mark.parametrize(("prompts", "k"), [(150, 2), (60, 4)])
def test_of_three_careful_one_noisy_and_one_random_the_random_one_is_flagged(prompts, k):
    worlds = [flagged_in(world(seed, prompts=prompts, people=3, k=k)) for seed in range(100)]
    right = [4 in flagged and not flagged & {0, 1, 2} for flagged in worlds]
    assert sum(right) >= 95


def right_of(noise):
    """How often somebody whose eye has this much noise prefers the better one of two."""
    generator = random.Random(7)
    seen = [judged(generator, noise, 2) for _ in range(20_000)]
    return sum(places[1] < places[0] for places in seen) / len(seen)


def test_a_reliability_is_near_the_truth_and_its_interval_holds_it():
    """In 100 worlds, with 95 % intervals; the random one is clear of every careful one."""
    truth = [right_of(noise) for noise in (*[CAREFUL_OF_TWO] * 3, 1.6, ANYTHING)]
    missed, held, apart = [0.0] * 5, [0] * 5, 0
    for seed in range(100):
        found = against_the_others(votes_of(world(seed, prompts=150, people=3, k=2)))
        of_each = [found[name].reliability for name in range(5)]
        for name, each in enumerate(of_each):
            low, high = each.interval
            assert 0 <= low <= each.value <= high <= 1 and low < high
            missed[name] += (each.value - truth[name]) / 100
            held[name] += low <= truth[name] <= high
        apart += of_each[4].interval[1] < min(each.value for each in of_each[:3])
    assert max(map(abs, missed)) < 0.06, missed
    assert min(held) >= 85 and sum(held) >= 450, held
    assert apart >= 95


def test_nobody_has_a_reliability_who_ranks_alone():
    alone = [Ranked(prompt, 1, {1: 1, 2: 2}) for prompt in range(20)]
    assert not against_the_others(votes_of(alone))
    two = [Ranked(p, name, {1: 1, 2: 2}) for p in range(20) for name in (1, 2)]
    each = against_the_others(votes_of(two))[1].reliability
    assert each.value == 1.0 and 0.7 < each.interval[0] < 1.0, "never of zero width"


def test_one_random_clicker_drags_nobody_down():
    """Pair by pair, who shares half of their prompts with a clicker loses what the clicker does."""
    rankings = world(3, prompts=150, people=3, k=2)
    found, pairwise = against_the_others(votes_of(rankings)), with_peers(rankings)
    for careful in range(3):
        robust, plain = share_of(found[careful].clusters), share_of(pairwise[careful])
        assert robust.value > plain.value + 0.05
    right = reliabilities(votes_of(rankings))
    assert sorted(right, key=right.get)[:2] == [4, 3] and right[4] < 0.6


def test_reliabilities_are_those_by_which_a_reward_model_may_weigh_votes():
    """Both are Dawid and Skene's, once here and once in the trainer, which knows no Django."""
    rankings = world(5, prompts=80, people=3, k=4)
    rows = [
        records.Ranking(
            records.Prompt(str(each.prompt), ({"role": "user", "content": str(each.prompt)},)),
            tuple(map(str, sorted(each.places))),
            tuple(float(each.places[thing]) for thing in sorted(each.places)),
            labeler=str(each.labeler),
        )
        for each in rankings
    ]
    weighed = {each.labeler: each.reliability for each in records.agreement_weights(rows)}
    ours = {name: max(2 * p - 1, 0.0) for name, p in reliabilities(votes_of(rankings)).items()}
    scale = sum(ours[each.labeler] for each in rankings) / len(rankings)
    for name, raw in ours.items():
        assert weighed[str(name)] == pytest.approx(max(raw / scale, 0.05), rel=1e-6)


def test_of_two_people_nobody_can_tell_who_errs():
    rankings = [each for each in world(1, prompts=99, people=5, k=2) if each.labeler in (0, 4)]
    assert flagged_in(rankings) == {0, 4}


def test_a_median_of_two_seconds_carries_a_chip(browse, project, rita, alice, worked):
    Assignment.objects.filter(labeler=alice).update(active_seconds=2)
    page = " ".join(browse(rita).get(LABELERS).content.decode().split())
    assert page.count("2 s an answer") == 1 and "30 s an answer" not in page
    member = project.memberships.get(user=alice)
    theirs = " ".join(browse(rita).get(f"{LABELERS}{member.pk}/").content.decode().split())
    assert "took less than 2 s" in theirs


def test_an_operator_finds_what_somebodys_data_went_into(browse, olga, rita, worked):
    pages = [browse(who).get(LABELERS).content.decode() for who in (olga, rita)]
    assert "Where their data went" in pages[0] and "Where their data went" not in pages[1]


def work_through(project, people, generator):
    """Everybody ranks what the queue gives, each with a noise of their own."""
    for user, noise in people.items():
        while work := next_assignment(user, project):
            places = judged(generator, noise)
            Ranking.record(
                assignment=work,
                active_seconds=30,
                placements=[
                    Placement(completion_id=pk, place=places[i])
                    for i, pk in enumerate(sorted(work.shown_order))
                ],
            )


@pytest.fixture
def carol(project):
    return project.admit(name="carol", role=Membership.Role.LABELER)


@pytest.fixture
def worked(project, alice, bob, carol, rank_task):
    """Fifty tasks by alice and bob, who look, and by carol, who does not."""
    for _ in range(50):
        rank_task(k=K, overlap=3)
    work_through(project, {alice: 0.6, bob: 0.6, carol: ANYTHING}, random.Random(5))


def test_the_careless_one_stands_out_on_the_page(browse, project, rita, worked):
    figures = quality.labelers(project, quality.doubly_ranked(project))
    doubted = [each.member.user.username for each in figures if each.is_careless]
    assert doubted == ["carol"]
    page = browse(rita).get(LABELERS).content.decode()
    assert page.count("close to chance") == 1
    assert page.index("carol") < page.index("alice")


def test_who_withdrew_counts_nowhere_and_who_is_excluded_not_for_the_project(
    browse, project, olga, rita, worked
):
    one, other, *_ = sorted({each.labeler_id for each in quality.rankings_of(project)})
    all_of_them = len(quality.doubly_ranked(project))
    Membership.objects.get(project=project, user=other).exclude()
    assert len(quality.doubly_ranked(project)) == all_of_them
    trusted = quality.trusted_doubly_ranked(project)
    assert other not in {each.labeler for each in trusted} and trusted
    Withdrawal.withdraw(project, person=User.objects.get(pk=one), by=olga)
    assert one not in {each.labeler_id for each in quality.rankings_of(project)}
    page = browse(rita).get("/p/cooking/labelers/").text
    assert page.count(">withdrawn<") == page.count(">excluded<") == 1


def test_a_labelers_page_reads_the_rankings_of_all_once(browse, project, rita, worked, monkeypatch):
    read, reads = quality.doubly_ranked, []
    monkeypatch.setattr(quality, "doubly_ranked", lambda of: reads.append(of) or read(of))
    member = project.memberships.get(user__username="carol")
    assert browse(rita).get(f"{LABELERS}{member.pk}/").status_code == 200
    assert reads == [project]


def test_a_labelers_page_has_all_figures(browse, project, rita, carol, worked):
    member = project.memberships.get(user=carol)
    Assignment.objects.filter(labeler=carol).first()
    response = browse(rita).get(f"{LABELERS}{member.pk}/")
    text = response.content.decode()
    for name in ("Agrees with peers", "Kendall", "Krippendorff", "First shown", "Longer answer"):
        assert name in text
    figures = response.context["figures"]
    assert (figures.answered, figures.median_seconds, figures.per_hour) == (50, 30, 120)
    low, high = response.context["agreement"].share.interval
    assert low < 0.5 < high


def test_position_and_length_bias_are_measured(project, alice, rank_task):
    for _ in range(12):
        task = rank_task(k=3)
        work = next_assignment(alice, project)
        first, *rest = work.shown_order
        task.completions.filter(pk=first).update(text="a very much longer text than the others")
        places = [Placement(completion_id=first, place=1)]
        places += [Placement(completion_id=pk, place=2) for pk in rest]
        Ranking.record(assignment=work, placements=places)
    habits = quality.habits(project.memberships.select_related("project", "user").get(user=alice))
    assert habits.first_on_top.value == habits.longer_wins.value == 1
    assert habits.by_chance == pytest.approx(1 / 3)


def test_agreement_is_told_by_guideline_and_by_week(project, alice, bob, rank_task):
    generator = random.Random(1)
    for noise in (ANYTHING, 0.01):
        for _ in range(12):
            rank_task(k=K, overlap=2)
        work_through(project, {alice: noise, bob: noise}, generator)
        project.publish_guideline(text="Clearer.", author=None)
    ranked = quality.doubly_ranked(project)
    (one, vague), (two, clear) = quality.by_guideline(ranked)
    assert (one, two) == (1, 2)
    assert vague.share.value < 0.7 and clear.share.value == clear.tau == clear.alpha == 1
    [(week, share)] = quality.over_time(ranked)
    assert week.weekday() == 0 and share.trials == 24 * 6


# Actions


def act(browse, lead, member, name):
    return browse(lead).post(f"{LABELERS}{member.pk}/", {"act": name})


def test_a_paused_labeler_gets_no_work_till_let_in_again(browse, project, alice, rita, write_task):
    write_task()
    member = project.memberships.get(user=alice)
    act(browse, rita, member, "pause")
    assert next_assignment(alice, project) is None
    assert browse(alice).get("/p/cooking/label/").status_code == 404
    act(browse, rita, member, "resume")
    assert next_assignment(alice, project)


def test_an_excluded_labeler_teaches_no_new_snapshot(browse, project, alice, bob, rita, rank_task):
    rank_task(overlap=2)
    work_through(project, {alice: 0.1, bob: 0.1}, random.Random(1))
    before = Ranking.objects.latest("pk").created_at
    member = project.memberships.get(user=alice)
    act(browse, rita, member, "exclude")
    assert [ranking.labeler for ranking in rankings(project)] == [bob]
    assert rankings(project, Filters(until=before)).count() == 2
    act(browse, rita, member, "include")
    assert rankings(project).count() == 2


def test_requalify_and_nonsense(browse, project, alice, rita):
    member = project.memberships.get(user=alice)
    act(browse, rita, member, "requalify")
    member.refresh_from_db()
    assert member.requalify_since and not member.qualified_at
    for name in ("delete", "_set", "save", ""):
        assert act(browse, rita, member, name).status_code == 302
    assert project.memberships.filter(user=alice, state="active").exists()


@pytest.mark.parametrize("act", ["pause", "requalify", "exclude"])
def test_a_reviewer_stops_no_operator(act, browse, project, olga, rita):
    page = f"/p/cooking/labelers/{project.memberships.get(user=olga).pk}/"
    assert 'name="act"' not in browse(rita).get(page).content.decode()
    assert browse(rita).post(page, {"act": act}).status_code == 403
    member = project.memberships.get(user=olga)
    assert member.state == "active" and not member.excluded_at and not member.requalify_since
    assert browse(olga).post(page, {"act": act}).status_code == 302


def test_only_leads_see_labelers_and_strangers_find_nothing(
    browse, project, alice, rita, mallory, worked
):
    member = project.memberships.get(user=alice)
    for address in (LABELERS, f"{LABELERS}{member.pk}/"):
        assert browse(alice).get(address).status_code == 403
        assert browse(mallory).get(address).status_code == 404
    there = f"/p/elsewhere/labelers/{member.pk}/"
    assert browse(mallory).get(there).status_code == 404
    assert act(browse, mallory, member, "pause").status_code == 404
    assert browse(mallory).post(there, {"act": "pause"}).status_code == 404
    assert browse(rita).get(f"{LABELERS}999999/").status_code == 404


# Answers


@pytest.fixture
def at_odds(project, alice, bob, rank_task):
    """Two tasks that both ranked: of the first the same, of the second the other way round."""
    for backwards in (False, True):
        task = rank_task(k=3, overlap=2)
        ids = sorted(task.completions.values_list("pk", flat=True))
        for user, order in ((alice, ids), (bob, ids[::-1] if backwards else ids)):
            work = next_assignment(user, project)
            placed = [Placement(completion_id=pk, place=n) for n, pk in enumerate(order, start=1)]
            placed[0].flags = ["hallucination"]
            Ranking.record(assignment=work, placements=placed, reason="Said so")
    return project.memberships.get(user=bob)


def rows_of(page):
    return [work.task.prompt.text for work in page.context["page"].rows]


def test_a_lead_reads_the_answers_and_those_at_odds_with_others(browse, rita, at_odds):
    page = browse(rita).get(f"{LABELERS}{at_odds.pk}/")
    assert rows_of(page) == ["Question 1", "Question 0"]
    assert re.findall(r"(\d) of (\d)", page.content.decode()) == [("0", "3"), ("3", "3")]
    odd = browse(rita).get(f"{LABELERS}{at_odds.pk}/?show=at-odds")
    assert rows_of(odd) == ["Question 1"]


def test_an_answer_stands_beside_those_of_the_others(browse, rita, alice, bob, at_odds):
    work = Assignment.objects.filter(labeler=bob).latest("pk")
    page = browse(rita).get(f"{LABELERS}{at_odds.pk}/answers/{work.pk}/")
    assert page.context["sheet"].names == ["bob", "L1"]
    places = [[each.place for _, each in cells] for _, cells in page.context["sheet"].rows]
    assert sorted(places) == [[1, 3], [2, 2], [3, 1]]
    text = page.content.decode()
    assert "Makes things up" in text and "Said so" in text and "alice" not in text
    another = at_odds.project.memberships.get(user=alice)
    assert browse(rita).get(f"{LABELERS}{another.pk}/answers/{work.pk}/").status_code == 404
    assert browse(bob).get(f"{LABELERS}{at_odds.pk}/answers/{work.pk}/").status_code == 403


def test_answers_to_gold_stand_beside_the_right_one_and_skips_say_why(
    browse, project, rita, alice, rank_task, write_task
):
    member = project.memberships.get(user=alice)
    rank_task(k=2)
    by_rita = next_assignment(rita, project)
    order = [Placement(completion_id=pk, place=n) for n, pk in enumerate(by_rita.shown_order, 1)]
    gold = make_gold(Ranking.record(assignment=by_rita, placements=order))
    gold.use(is_practice=True)
    work = Assignment.objects.create(
        task=gold,
        labeler=alice,
        trial="practice",
        leased_until=timezone.now(),
        shown_order=by_rita.shown_order,
    )
    order = [Placement(completion_id=pk, place=1) for pk in work.shown_order]
    Ranking.record(assignment=work, placements=order)
    write_task()
    skipped = next_assignment(alice, project)
    skipped.skip(reason="unsafe", note="It asks for poison.")
    client = browse(rita)
    page = client.get(f"{LABELERS}{member.pk}/answers/{work.pk}/")
    assert page.context["sheet"].names == ["alice", "Gold"]
    assert "practice" in page.content.decode()
    page = client.get(f"{LABELERS}{member.pk}/answers/{skipped.pk}/").content.decode()
    assert "Unsafe to answer" in page and "It asks for poison." in page
    assert "skipped: Unsafe" in client.get(f"{LABELERS}{member.pk}/").content.decode()
