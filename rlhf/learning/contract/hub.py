"""How a model of a Hugging Face hub is named, and where a downloaded folder says which it is."""

from __future__ import annotations

import json
import re
from pathlib import Path

HUB_ID = re.compile(r"(?P<name>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w./-]+))?")
SOURCE = "source.json"


def is_hub_id(text: str) -> bool:
    """Whether it reads OWNER/NAME or OWNER/NAME@REVISION."""
    return HUB_ID.fullmatch(text) is not None


def source_of(folder: Path) -> dict[str, str]:
    """Says which `model`, `revision` and `license` a downloaded folder is; {} of another."""
    place = folder / SOURCE
    said: dict[str, str] = json.loads(place.read_text()) if place.is_file() else {}
    return said
