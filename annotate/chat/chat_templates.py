"""What a model folder says of its turns: which ids end an answer, which texts are control tokens,
whether its chat template takes a system message.

A model server writes people's words into the template and reads the whole for control tokens, so
that a guest who spells them could speak as the system. Before words leave for a server, each such
text gets an invisible character behind its first, and is text again."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from annotate.prompts.models import Messages

WORD_JOINER = "\u2060"
# As families of models spell theirs; a server elsewhere does not tell us which it serves.
WELL_KNOWN = (
    r"<\|[^<>|\s]{1,40}\|>|<\uff5c[^<>\uff5c]{1,40}\uff5c>|</?s>|<(?:bos|eos|pad|unk)>"
    r"|</?(?:start|end)_of_turn>|<\|?turn\|?>|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS)\]"
    r"|<</?SYS>>|<(?:reserved|extra|unused)_?\d+>"
)
QUESTION, ANSWER, SYSTEM = "Why is the sky blue?", "Because of the air.", "Answer in one sentence."


@dataclass(frozen=True)
class ChatTemplate:
    """`stops`: ids that end an answer. `controls`: matches what only the template may write."""

    stops: tuple[int, ...]
    controls: re.Pattern[str]
    takes_system: bool = True

    def fit(self, messages: Messages) -> Messages:
        """The messages as the model is to be told them: text that spells no control token, and the
        system's first words of the user where the template knows no system."""
        told = [{**each, "content": self._as_text(each["content"])} for each in messages]
        if self.takes_system or not told or told[0]["role"] != "system":
            return told
        system, *others = told
        first = next((i for i, each in enumerate(others) if each["role"] == "user"), None)
        if first is None:
            return told
        content = f"{system['content']}\n\n{others[first]['content']}"
        others[first] = {**others[first], "content": content}
        return others

    def _as_text(self, text: str) -> str:
        return self.controls.sub(lambda spelt: spelt[0][0] + WORD_JOINER + spelt[0][1:], text)


UNKNOWN = ChatTemplate((), re.compile(WELL_KNOWN, re.IGNORECASE))


def read_chat_template(folder: Path) -> ChatTemplate:
    """Reads what the folder says; UNKNOWN where there is nothing to read on this disk."""
    try:
        changed = max(each.stat().st_mtime_ns for each in folder.glob("*.json"))
    except (OSError, ValueError):
        return UNKNOWN
    return _read(folder, changed)


@lru_cache(maxsize=32)
def _read(folder: Path, _changed: int) -> ChatTemplate:
    told, tokenizer = _json(folder / "tokenizer_config.json"), _json(folder / "tokenizer.json")
    added = {each["content"]: each for each in tokenizer.get("added_tokens", [])}
    for number, each in told.get("added_tokens_decoder", {}).items():
        added.setdefault(each["content"], {**each, "id": int(number)})
    configured = _json(folder / "generation_config.json").get("eos_token_id")
    if configured is None:
        configured = _json(folder / "config.json").get("eos_token_id")
    stops = set(configured if isinstance(configured, list) else [configured]) - {None}
    if (eos := _text(told.get("eos_token"))) in added:
        stops.add(added[eos]["id"])
    renders = _renderer(folder, told)
    asked = [{"role": "user", "content": QUESTION}]
    whole = renders([*asked, {"role": "assistant", "content": ANSWER}])
    written = {text for text in added if whole and text in whole and text.strip()}
    _, _, tail = (whole or "").rpartition(ANSWER)
    if closing := min((text for text in written if text in tail), key=tail.index, default=None):
        stops.add(added[closing]["id"])
    special = {text for text, each in added.items() if each.get("special") and text.strip()}
    spelt = sorted(special | ({closing} if closing else set()), key=len, reverse=True)
    with_system = renders([{"role": "system", "content": SYSTEM}, *asked])
    return ChatTemplate(
        tuple(sorted(stops)),
        re.compile("|".join([*map(re.escape, spelt), WELL_KNOWN]), re.IGNORECASE),
        takes_system=whole is None or bool(with_system and SYSTEM in with_system),
    )


def _renderer(folder: Path, told: dict[str, Any]) -> Any:
    """messages → what the template writes of them; None where it refuses or cannot be run here."""
    source = told.get("chat_template")
    if isinstance(source, list):
        source = {each["name"]: each["template"] for each in source}.get("default")
    if (folder / "chat_template.jinja").is_file():
        source = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    try:
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError:  # it comes with the learning libraries
        source = None
    if not source:
        return lambda messages: None

    def refuse(reason: str) -> None:
        raise ValueError(reason)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: ""
    tokens = {name: _text(told.get(name)) for name in ("bos_token", "eos_token", "pad_token")}

    def render(messages: Messages) -> str | None:
        try:
            return environment.from_string(source).render(messages=messages, **tokens)
        except Exception:  # whatever code of a template raises
            return None

    return render


def _text(token: Any) -> str:
    return str(token.get("content", "") if isinstance(token, dict) else token or "")


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
