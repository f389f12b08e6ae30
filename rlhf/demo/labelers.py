"""Labelers that are simulated, and say so on every page and in every export.

They like one thing that can be measured: the answer with fewer words wins, and an empty one or one
cut off by the length limit loses to any finished one. People disagree with each other in about 27 %
of pairs (InstructGPT, section 5.1), so a simulated labeler turns round as many, by drawing the
order from a Mallows model around the true one: pairs close to each other swap more easily."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from itertools import combinations, pairwise

from django.contrib.auth.hashers import make_password

from annotate.labelling.queue import next_assignment
from annotate.models import Completion, Membership, Placement, Project, Ranking, Task, User

NAMES = ("sim-anna", "sim-ben", "sim-cleo")
LIKING = "fewer words win; an empty or cut-off answer loses to any finished one"
NOISE = 0.27
WORST = float("-inf")


def gold_score(completion: Completion) -> float:
    """What is really liked: higher is better."""
    words = len(completion.text.split())
    return -float(words) if words and completion.finish_reason != "length" else WORST


def hire(project: Project, name: str, role: str = Membership.Role.LABELER) -> User:
    """A simulated person of this project; without a password, for nobody is there to type it."""
    nobody = {"is_simulated": True, "password": make_password(None)}
    person, _ = User.objects.get_or_create(username=name, defaults=nobody)
    assert person.is_simulated, f"{name} is a person"
    project.memberships.get_or_create(user=person, defaults={"role": role})
    return person


@dataclass
class NoiseCounts:
    """How the simulated labelers judged, against what they really like."""

    rankings: int = 0
    pairs: int = 0
    flipped: int = 0

    @property
    def noise(self) -> float | None:
        return self.flipped / self.pairs if self.pairs else None

    def count(self, scores: list[float], places: list[int]) -> None:
        self.rankings += 1
        for i, j in combinations(range(len(scores)), 2):
            if scores[i] != scores[j]:
                better, worse = (i, j) if scores[i] > scores[j] else (j, i)
                self.pairs += 1
                self.flipped += places[better] > places[worse]


def rank_all(
    project: Project, labelers: list[User], *, seed: int, noise: float = NOISE
) -> NoiseCounts:
    """Each in turn takes what the queue gives, until it has no more ranking for anybody."""
    counts = NoiseCounts()
    waiting = list(labelers)
    while waiting:
        for labeler in list(waiting):
            work = next_assignment(labeler, project)
            if work is None or work.task.kind != Task.Kind.RANK:
                waiting.remove(labeler)
                continue
            completions = list(work.task.completions.order_by("pk"))
            scores = [gold_score(completion) for completion in completions]
            generator = random.Random(f"{seed}/{labeler.username}/{work.task.prompt_id}")
            places = noisy_places(scores, noise=noise, generator=generator)
            Ranking.record(
                assignment=work,
                placements=[
                    Placement(completion=completion, place=place)
                    for completion, place in zip(completions, places, strict=True)
                ],
                reason=f"simulated: {LIKING}",
            )
            counts.count(scores, places)
    return counts


def noisy_places(scores: list[float], *, noise: float, generator: random.Random) -> list[int]:
    """The place of each, 1 is best; equals that end up side by side share one."""
    order = list(range(len(scores)))
    generator.shuffle(order)  # equals have no order of their own
    order.sort(key=lambda i: -scores[i])
    drawn: list[int] = []
    dispersion = _dispersion(len(scores), noise)
    for item in order:
        # Repeated insertion draws from the Mallows model: each step up costs one `dispersion`.
        steps = range(len(drawn) + 1)
        up = generator.choices(steps, weights=[dispersion**step for step in steps])[0]
        drawn.insert(len(drawn) - up, item)
    places = {drawn[0]: 1}
    for above, item in pairwise(drawn):
        places[item] = places[above] + (scores[above] != scores[item])
    return [places[i] for i in range(len(scores))]


@cache
def _dispersion(k: int, noise: float) -> float:
    """The Mallows dispersion at which a share `noise` of the pairs of k items is turned round."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if _expected_flips(k, middle) < noise * k * (k - 1) / 2:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _expected_flips(k: int, dispersion: float) -> float:
    flips = 0.0
    for before in range(k):
        weights = [dispersion**step for step in range(before + 1)]
        flips += sum(step * weight for step, weight in enumerate(weights)) / sum(weights)
    return flips
