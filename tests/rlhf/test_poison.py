"""S10: five per cent of the guests lie. What a snapshot weighs, and what a reviewer sees on the
guests' page and ignores, each leaves a reward model that is right as often as without them."""

from datetime import timedelta

import numpy as np
import pytest
from django.utils import timezone

from annotate.models import Completion, Feedback, Prompt, User
from annotate.quality.unusual import unusual_guests
from rlhf.data.selection import EVERYTHING
from rlhf.data.snapshot import freeze_thumbs

HONEST, SYBILS, EACH, EACH_SYBIL, FEATURES, HELD_OUT = 95, 5, 10, 60, 5, 4000
POINT = 0.01


@pytest.fixture
def chance() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def truth(chance) -> np.ndarray:
    """What is good of an answer, which is known by its text alone."""
    return chance.normal(size=FEATURES)


@pytest.fixture
def site(project, policy, chance, truth) -> None:
    """Old accounts, all trusted, a third of the honest ones vouched for by a reviewer: honest
    guests like good answers, mostly, and in their own time; sybils made within one hour dislike
    whatever they are shown."""
    project.new_guest_days = 7
    project.save()
    now, day = timezone.now(), timedelta(days=1)
    guests = User.objects.bulk_create(User(username=f"g{n}") for n in range(HONEST + SYBILS))
    for n, each in enumerate(guests):
        each.date_joined = now - (100 + n) * day if n < HONEST else now - 60 * day
        vouched_at = now if n < HONEST // 3 else None
        project.memberships.create(user=each, role="guest", vouched_at=vouched_at)
    User.objects.bulk_update(guests, ["date_joined"])
    count = HONEST * EACH + SYBILS * EACH_SYBIL
    prompts = Prompt.objects.bulk_create(
        Prompt(project=project, messages=[{"role": "user", "content": f"Question {n}"}]).derive()
        for n in range(count)
    )
    answers = chance.normal(size=(count, FEATURES))
    texts = [" ".join(map(str, each)) for each in answers]
    said = Completion.objects.bulk_create(
        Completion(prompt=prompt, policy=policy, text=text).derive()
        for prompt, text in zip(prompts, texts, strict=True)
    )
    good = chance.random(count) < 1 / (1 + np.exp(-3 * answers @ truth))
    given = []
    for n, completion in enumerate(said):
        honest = n < HONEST * EACH
        who = guests[n % HONEST] if honest else guests[HONEST + n % SYBILS]
        up = bool(good[n]) if honest else False
        given.append(Feedback(completion=completion, user=who, thumb_up=up))
    given = Feedback.objects.bulk_create(given)
    for n, each in enumerate(given):
        each.created_at = now - timedelta(minutes=20 * n)
    Feedback.objects.bulk_update(given, ["created_at"])


def learnt(project, *, is_weighed: bool = False) -> np.ndarray:
    """Logistic regression by Newton's method on the thumbs of a snapshot."""
    files = freeze_thumbs(project, EVERYTHING).files
    rows = [*files["train"], *files["test"]]
    x = np.array([[*map(float, row["completion"][0]["content"].split()), 1.0] for row in rows])
    y = np.array([row["label"] for row in rows], dtype=float)
    w = np.array([row.get("weight", 1.0) if is_weighed else 1.0 for row in rows])
    found = np.zeros(x.shape[1])
    for _ in range(25):
        p = 1 / (1 + np.exp(-x @ found))
        hessian = (x.T * (w * p * (1 - p))) @ x + np.eye(x.shape[1])
        found += np.linalg.solve(hessian, x.T @ (w * (y - p)) - found)
    return found


def accuracy(weights: np.ndarray, truth: np.ndarray) -> float:
    """Of held-out answers, on how many it agrees with the truth whether they are good."""
    x = np.random.default_rng(8).normal(size=(HELD_OUT, FEATURES))
    return float((((x @ weights[:-1] + weights[-1]) > 0) == (x @ truth > 0)).mean())


def test_five_per_cent_sybils_move_held_out_accuracy_by_a_point_at_most(project, site, truth):
    sybils = {f"g{n}" for n in range(HONEST, HONEST + SYBILS)}
    poisoned = accuracy(learnt(project), truth)
    weighed = accuracy(learnt(project, is_weighed=True), truth)
    found = unusual_guests(project)
    assert {each.member.user.username for each in found} == sybils
    for each in found:
        each.member.exclude()  # *Ignore their feedback*
    kept = accuracy(learnt(project), truth)
    Feedback.objects.filter(user__username__in=sybils).delete()
    clean = accuracy(learnt(project), truth)
    assert clean - poisoned > 5 * POINT, "they would do no harm anyway"
    assert clean - weighed <= POINT
    assert abs(clean - kept) <= POINT
