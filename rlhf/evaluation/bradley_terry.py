"""How strong every policy is, from all matches at once (Bradley & Terry 1952).

Strengths are log-odds around the average policy, 0: one of strength s wins over it with
probability 1 / (1 + exp(-s)). The intervals hold together with 95 % (Bonferroni), so that ranks may
be read off them; they allow for the answers to one prompt resembling each other (Liang & Zeger
1986), and for how few the prompts are (Student 1908)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlhf.evaluation.matches import Match
from rlhf.learning.contract.intervals import student

PRIOR = 1.0  # matches against the field, half of them won: keeps the unbeaten finite


@dataclass(frozen=True)
class Standing:
    """One policy's strength; of a single prompt there is no interval."""

    policy: int
    strength: float
    low: float | None
    high: float | None
    matches: int
    prompts: int

    @property
    def beats_average(self) -> float:
        """Its chance against an average policy."""
        return float(1 / (1 + np.exp(-self.strength)))


def standings(matches: Sequence[Match]) -> list[Standing]:
    """Estimates the strength of every policy in the matches, the strongest first."""
    import choix  # late: it takes seconds to load, which `warm_up` in rlhf.apps does beforehand

    policies = sorted({side for match in matches for side in (match.left, match.right)})
    if not policies:
        return []
    place = {policy: index for index, policy in enumerate(policies)}
    left_N = np.array([place[match.left] for match in matches])
    right_N = np.array([place[match.right] for match in matches])
    worth_N = np.array([match.worth for match in matches])
    wins_PP = np.full((len(policies),) * 2, PRIOR / 2 / (len(policies) - 1))
    np.fill_diagonal(wins_PP, 0)
    np.add.at(wins_PP, (left_N, right_N), worth_N)
    np.add.at(wins_PP, (right_N, left_N), 1 - worth_N)
    strength_P = choix.ilsr_pairwise_dense(wins_PP, max_iter=10_000, tol=1e-6)
    strength_P -= strength_P.mean()
    prompts = [match.prompt for match in matches]
    error_P = _errors(strength_P, wins_PP, left_N, right_N, worth_N, prompts)
    found = []
    for policy, p in place.items():
        met_N = (left_N == p) | (right_N == p)
        own = len({prompts[n] for n in np.flatnonzero(met_N)})
        strength, off = float(strength_P[p]), None
        if own > 1:
            off = student(1 - 0.025 / len(policies), own - 1) * float(error_P[p])
        low, high = (None, None) if off is None else (strength - off, strength + off)
        found.append(Standing(policy, strength, low, high, int(met_N.sum()), own))
    return sorted(found, key=lambda each: -each.strength)


def _errors(
    strength_P: np.ndarray,
    wins_PP: np.ndarray,
    left_N: np.ndarray,
    right_N: np.ndarray,
    worth_N: np.ndarray,
    prompts: Sequence[int],
) -> np.ndarray:
    """Standard errors of the strengths: by prompts, and never below what the model itself says,
    for where all agree the prompts show no spread. Of somebody who always wins or always loses, a
    prompt counts as one match, however often it was judged."""
    chance_PP = 1 / (1 + np.exp(strength_P[None, :] - strength_P[:, None]))
    information_PP = -(wins_PP + wins_PP.T) * chance_PP * (1 - chance_PP)
    np.fill_diagonal(information_PP, 0)
    np.fill_diagonal(information_PP, -information_PP.sum(1))
    bread_PP = np.linalg.pinv(information_PP)
    cluster = {prompt: index for index, prompt in enumerate(dict.fromkeys(prompts))}
    cluster_N = np.array([cluster[prompt] for prompt in prompts])
    missed_N = worth_N - chance_PP[left_N, right_N]
    pulls_CP = np.zeros((len(cluster), len(strength_P)))
    np.add.at(pulls_CP, (cluster_N, left_N), missed_N)
    np.add.at(pulls_CP, (cluster_N, right_N), -missed_N)
    few = len(cluster) / max(len(cluster) - 1, 1)
    by_prompt_PP = few * bread_PP @ (pulls_CP.T @ pulls_CP) @ bread_PP
    floor_P = np.diag(bread_PP).copy()
    for p in range(len(strength_P)):
        met_N = np.flatnonzero((left_N == p) | (right_N == p))
        own_N = np.where(left_N[met_N] == p, worth_N[met_N], 1 - worth_N[met_N])
        if np.ptp(own_N) == 0:
            floor_P[p] *= len(met_N) / len({prompts[n] for n in met_N.tolist()})
    return np.sqrt(np.maximum(np.diag(by_prompt_PP), floor_P))
