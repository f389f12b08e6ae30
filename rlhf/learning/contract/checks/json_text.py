"""The answer is JSON."""

from __future__ import annotations

import json

from .check import Check


class JSONText(Check):
    name = "json"
    setting = "name, age"
    meaning = "valid JSON and nothing else; with a setting, an object that has these keys"

    def __init__(self, setting: str = "") -> None:
        super().__init__(setting)
        self.keys = setting.replace(",", " ").split()

    def passes(self, completion: str, reference: str) -> bool:
        return is_json(completion, self.keys)


def is_json(text: str, keys: list[str]) -> bool:
    """Tells whether the text is JSON, and an object with these keys if there are any."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return not keys or (isinstance(value, dict) and set(keys) <= set(value))


CHECK = JSONText
