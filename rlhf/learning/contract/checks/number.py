"""The answer ends in the right number."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from .check import CheckError, ReferenceCheck

# "1,234.5" and "-3", but neither the "-3" of "5-3" nor the "3" of "x3".
NUMBER = re.compile(r"(?<![\w.])-?[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?")
MINUS = str.maketrans("\N{MINUS SIGN}", "-")


class Number(ReferenceCheck):
    name = "number"
    setting = "0.01"
    meaning = "the last number is that of the reference, or off by no more than the setting"

    def __init__(self, setting: str = "") -> None:
        super().__init__(setting)
        try:
            self.tolerance = Decimal(setting.strip() or "0")
        except InvalidOperation:
            self.tolerance = Decimal(-1)
        if not (self.tolerance.is_finite() and self.tolerance >= 0):
            raise CheckError(f"number({setting}): the setting is a tolerance, e.g. number(0.01)")

    def passes(self, completion: str, reference: str) -> bool:
        said, right = last_number(completion), last_number(reference)
        if said is None or right is None:
            return False
        return said == right or abs(said - right) <= self.tolerance


def last_number(text: str) -> Decimal | None:
    """The last number written in digits; commas are of thousands."""
    found = NUMBER.findall(text.translate(MINUS))
    return Decimal(found[-1].replace(",", "")) if found else None


CHECK = Number
