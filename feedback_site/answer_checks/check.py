"""What every check is: a rule that a program applies to an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

PAREN = re.compile(r"\\([()])")


class CheckError(ValueError):
    """The user's mistake in the setting of a check; the message says what is allowed."""


class Check:
    """A rule with its setting. See `CHECKS` for all there are."""

    name: ClassVar[str]
    meaning: ClassVar[str]  # one line, what passes it
    setting: ClassVar[str] = ""  # what stands in parentheses after the name, as an example
    needs_setting: ClassVar[bool] = False
    asks_a_model: ClassVar[bool] = False  # the score comes later, from whoever has the model
    rests_on: ClassVar[str] = ""  # what it needs beside answer and reference, and a grid alone has

    def __init__(self, setting: str = "") -> None:
        """Raises CheckError where the setting makes no sense."""
        if setting and not self.setting:
            raise CheckError(f"{self.name} takes no setting, but has ({setting})")
        if self.needs_setting and not setting.strip():
            raise CheckError(f"{self.name} needs a setting, e.g. {self.name}({self.setting})")
        self.given = setting

    @property
    def needs_reference(self) -> bool:
        """Whether it compares with the reference answer of the prompt."""
        return False

    def score(
        self,
        completion: str,
        reference: str = "",
        passages: Sequence[str] = (),
        before: Sequence[str] = (),
    ) -> float:
        """Returns how well the completion passes, 0 to 1; 0 for an empty one, and where a reference
        is needed and empty. `passages`: what the answer was given to read, numbered from 1.
        `before`: the answers to the turns before the last."""
        if not completion.strip() or (self.needs_reference and not reference.strip()):
            return 0.0
        return float(self.passes_with(completion, reference, passages, before))

    def passes_with(
        self,
        completion: str,
        reference: str,
        passages: Sequence[str],
        before: Sequence[str],
    ) -> bool | float:
        return self.passes(completion, reference)

    def passes(self, completion: str, reference: str) -> bool | float:
        raise NotImplementedError


class ReferenceCheck(Check):
    """A check against the reference answer."""

    @property
    def needs_reference(self) -> bool:
        return True


def alternatives(setting: str) -> list[str]:
    r"""The texts of "a|b|c", without blanks around them and without empty ones; \( and \) are the
    parentheses alone, see `written`."""
    return [each for part in PAREN.sub(r"\1", setting).split("|") if (each := part.strip())]
