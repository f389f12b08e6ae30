"""What a value of an imported line must be, and what its writer is told where it is not."""

from __future__ import annotations

from functools import cache
from typing import Any

from annotate.exchange.files.bad_row import BadRow
from annotate.labels.label import LONGEST_ANSWER

Raw = dict[str, Any]


def text(
    value: Any, name: str, *, limit: int | None = LONGEST_ANSWER, may_be_empty: bool = False
) -> str:
    """Returns a text that can be stored. Raises BadRow if it is none, is blank where it may not be,
    has more than `limit` characters, a NUL or half a surrogate pair."""
    if not isinstance(value, str):
        raise BadRow(f"“{name}” must be a text, not {short(value)}.")
    if not may_be_empty and not value.strip():
        raise BadRow(f"“{name}” is empty.")
    if "\x00" in value:
        raise BadRow(f"“{name}” contains a NUL character, which cannot be stored. Remove it.")
    if not value.isascii():
        _refuse_half_characters(value, name)
    if limit and len(value) > limit:
        raise BadRow(f"“{name}” has {len(value):,} characters, and at most {limit:,} fit.")
    return value


def _refuse_half_characters(value: str, name: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise BadRow(f"“{name}” contains half a character (a lone surrogate).") from error


def listed(raw: Raw, name: str) -> list[Any]:
    """Returns the list of that name. Raises BadRow if there is none."""
    if not isinstance(raw.get(name), list):
        raise BadRow(f"“{name}” must be a list.")
    return raw[name]


def each(raw: Raw, name: str, count: int) -> list[Any]:
    """One value for each completion: as many as there are, or none at all."""
    values = optional(raw, name, list, [None] * count)
    if len(values) != count:
        raise BadRow(
            f"{count} completions but {len(values)} in “{name}”: every completion needs its own."
        )
    return values


def optional(raw: Raw, name: str, kind: Any, default: Any) -> Any:
    """Returns the value of that name, `default` where it is missing or null. Raises BadRow if it is
    not of the Python type `kind`."""
    value = raw.get(name)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise BadRow(f"“{name}” cannot be {short(value)}.")
    return value


def whole(value: Any, name: str, *, least: int, most: int = 2**31 - 1) -> int:
    """Returns a whole number from `least` to `most`, also of a float like 3.0. Raises BadRow."""
    is_whole = isinstance(value, float) and value.is_integer() or type(value) is int
    if not is_whole:
        raise BadRow(f"{name} must be a whole number, not {short(value)}.")
    if not least <= value <= most:
        raise BadRow(f"{name} must be between {least} and {most}, not {short(value)}.")
    return int(value)


@cache
def _values(choices: Any) -> tuple[str, ...]:
    return tuple(choices.values)


def choice(raw: Raw, name: str, choices: Any, default: Any = None) -> str:
    """Returns one of the values of `choices`, an enumeration of Django's. Raises BadRow."""
    value = raw.get(name, default)
    if value not in _values(choices):
        known = ", ".join(_values(choices))
        raise BadRow(f"“{name}” must be one of {known}, not {short(value)}.")
    return str(value)


def short(value: Any) -> str:
    """Shows a value in an error message, cut off after 40 characters."""
    shown = repr(value)
    return shown if len(shown) <= 40 else shown[:40] + "…"
