"""A pattern occurs in the answer, or does not.

Patterns are those of RE2 (https://github.com/google/re2/wiki/Syntax): it takes time linear in the
answer, whatever the pattern, where others may take forever. It has no lookaround and no
backreferences; `\\w`, `\\d` and `\\b` know ASCII only."""

from __future__ import annotations

from functools import lru_cache

import re2

from .check import Check, CheckError


class Regex(Check):
    name = "regex"
    setting = "^Answer: [0-9]+$"
    needs_setting = True
    meaning = "the pattern (RE2) occurs"

    def __init__(self, setting: str = "") -> None:
        super().__init__(setting)
        try:
            pattern(setting)
        except re2.error as error:
            raise CheckError(f"{self.name}({setting}): {what_to_do(error)}") from None

    def passes(self, completion: str, reference: str) -> bool:
        return matches(completion, self.given)


class Unlike(Regex):
    name = "unlike"
    setting = "(?i)as an ai"
    meaning = "the pattern (RE2) does not occur"

    def passes(self, completion: str, reference: str) -> bool:
        return not matches(completion, self.given)


@lru_cache(maxsize=256)
def pattern(written: str) -> re2._Regexp:
    """Compiles a pattern; raises re2.error, see `what_to_do`."""
    options = re2.Options()
    options.log_errors = False
    return re2.compile(written, options)


def matches(text: str, written: str) -> bool:
    """Tells whether the pattern occurs in the text; raises re2.error."""
    return pattern(written).search(text) is not None


def what_to_do(error: re2.error) -> str:
    """Says what is wrong with a pattern, as a sentence."""
    said = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
    if "(?" in said or "escape sequence" in said:
        return f"{said}: patterns here have no lookaround and no backreferences; see RE2's syntax."
    return f"the pattern is wrong: {said}."
