"""The answer ends in the right number, or in one between two."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from .check import Check, CheckError, ReferenceCheck

# "1,234.5" and "-3", but neither the "-3" of "5-3" nor the "3" of "x3".
NUMBER = re.compile(r"(?<![\w.])-?[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?")
BOUND = r"(-?[0-9]{1,30}(?:\.[0-9]{1,30})?)"
BOUNDS = re.compile(rf"\s*{BOUND}\s*(?:-|\.\.)\s*{BOUND}\s*")
MINUS = str.maketrans("\N{MINUS SIGN}", "-")


class Number(ReferenceCheck):
    name = "number"
    setting = "0.01"
    meaning = "the last number equals that of the reference, or differs by no more than the setting"

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


class Within(Check):
    name = "within"
    setting = "10-20"
    needs_setting = True
    meaning = "the last number lies between these two, which count too"

    def __init__(self, setting: str = "") -> None:
        super().__init__(setting)
        bounds = BOUNDS.fullmatch(setting)
        least, most = (Decimal(each) for each in bounds.groups()) if bounds else (1, 0)
        if least > most:
            raise CheckError(
                f"within({setting}): write the least and the greatest number, e.g. within(10-20)"
            )
        self.least, self.most = least, most

    def passes(self, completion: str, reference: str) -> bool:
        said = last_number(completion)
        return said is not None and self.least <= said <= self.most


def last_number(text: str) -> Decimal | None:
    """The last number written in digits; commas are of thousands."""
    found = NUMBER.findall(text.translate(MINUS))
    return Decimal(found[-1].replace(",", "")) if found else None
