"""Checks as rewards, as they are written in a config: "number:1, length(5-200):0.2"."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from . import CHECKS
from .check import Check, CheckError

PART = re.compile(
    r"\s*(?P<name>[^\s(:]+)\s*(?:\((?P<setting>.*)\))?\s*(?::\s*(?P<weight>[^():]+?))?\s*",
    re.DOTALL,
)


@dataclass(frozen=True)
class CheckedPart:
    """A check and what its score counts. `name` tells it from the other parts of a reward."""

    name: str
    check: Check
    weight: float


def read_checks(written: str) -> list[CheckedPart]:
    """Reads checks with settings and weights, separated by commas or lines. A
    weight is 1 where there is none, and may be negative.

    Raises CheckError that names the first wrong part and what is allowed there."""
    parts = [_read(each) for each in _split(written)]
    seen: Counter[str] = Counter()
    named = []
    for check, weight in parts:
        seen[check.name] += 1
        number = f"_{seen[check.name]}" if seen[check.name] > 1 else ""
        named.append(CheckedPart(check.name + number, check, weight))
    return named


def _split(written: str) -> list[str]:
    """At commas and ends of lines that are in no parentheses; a backslash shields the next
    character."""
    parts, depth, shielded = [""], 0, False
    for character in written:
        if not shielded:
            depth += (character == "(") - (character == ")")
        if depth < 0:
            break
        if depth == 0 and character in ",\n":
            parts.append("")
        else:
            parts[-1] += character
        shielded = character == "\\" and not shielded
    if depth:
        raise CheckError(
            f"parentheses do not match in {written!r}: write \\( or \\) for one that is part of a"
            " text"
        )
    return [part for part in parts if part.strip()]


def _read(written: str) -> tuple[Check, float]:
    found = PART.fullmatch(written)
    if not found:
        raise CheckError(f"{written.strip()!r} is no check: write name(setting):weight")
    name, setting, weight = found["name"], found["setting"] or "", found["weight"] or "1"
    if name not in CHECKS:
        raise CheckError(f"there is no check {name!r}; known are {', '.join(sorted(CHECKS))}")
    try:
        number = float(weight)
    except ValueError:
        number = 0.0
    if not 0 < abs(number) < 1e6:
        raise CheckError(f"the weight of {name} must be a number other than 0, not {weight!r}")
    return CHECKS[name](setting), number
