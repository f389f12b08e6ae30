"""A text rendered while it is written: in the end it is the text rendered at once, and what was
finished on the way has stayed as it was."""

import re
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.text.markdown import Growing, markdown

EVERYTHING = """# Eggs

Boil **two** eggs
for $t = 8$ minutes.

1. Water
2. Salt

   with care
3. Eggs

- a
  - b

```python
def boil(egg):

    return egg
```

Title
-----

> quoted

| a | b |
|---|---|
| 1 | 2 |

    indented

***
\\[ x^2 \\]

~~~
open"""
PIECES = [
    "a",
    "1",
    "b c",
    " ",
    "  ",
    "    ",
    "\n",
    "\n",
    "\n\n",
    "\r\n",
    "\r",
    "- ",
    "* ",
    "1. ",
    "2) ",
]
PIECES += [
    "> ",
    "# ",
    "---",
    "===",
    "```",
    "```py\n",
    "~~~",
    "|",
    "|-|-|",
    "**",
    "`",
    "$",
    "<b>",
    "[a]: b",
]

# Code gets its colours when it is finished.
COLOURS = re.compile(r' class="[^"]*"|</?span[^>]*>')


def written(pieces: list[str]) -> list[tuple[str, str]]:
    """What is shown after each piece: all that is finished, and the last block."""
    text, finished, shown = Growing(), "", []
    for piece in pieces:
        text.add(piece)
        fixed, last = text.take()
        finished += fixed
        shown.append((finished, last))
    return shown


def as_lines(html: str) -> str:
    """Without line ends that make no difference to what is shown."""
    return re.sub(r"\n+", "\n", html).replace("\n</code>", "</code>")


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=30))
@settings(max_examples=600, deadline=None)
def test_blocks_together_are_the_text_rendered_at_once(pieces: list[str]) -> None:
    finished, last = written(pieces)[-1]
    at_once = markdown("".join(pieces))
    assert COLOURS.sub("", as_lines(finished + last)) == COLOURS.sub("", as_lines(at_once))


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=30))
@settings(max_examples=200, deadline=None)
def test_what_is_finished_stays(pieces: list[str]) -> None:
    text = "".join(pieces)
    whole = as_lines(markdown(text))
    for finished, _ in written(list(text)):
        assert whole.startswith(as_lines(finished))


def test_letter_by_letter_only_the_last_block_is_shown_anew() -> None:
    shown = written(list(EVERYTHING))
    finished, last = shown[-1]
    assert as_lines(finished + last) == as_lines(markdown(EVERYTHING))
    longest = max(len(last) for _, last in shown)
    assert longest < len(finished) / 3


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_may_be_cut_in_two(end: str) -> None:
    text = end.join(["- a", "- b", "", "c", "", "d"])
    finished, last = written(list(text))[-1]
    assert as_lines(finished + last) == as_lines(markdown(text))
    assert finished.count("<p") == 1 and "<ul" in finished


def test_code_that_grows_has_no_colours_yet_and_has_its_name() -> None:
    text = Growing()
    text.add("```python\nimport egg\n")
    fixed, last = text.take()
    assert fixed == "" and "hl-" not in last
    assert '<div class="language">python</div>' in last
    text.add("```\n\nDone")
    fixed, last = text.take()
    assert "hl-" in fixed and "Done" in last


@pytest.mark.parametrize("attack", ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>"])
def test_every_state_on_the_way_is_clean(attack: str) -> None:
    for finished, last in written(list(f"a\n\n{attack}\n\n```<b>\n{attack}\n")):
        assert "<script" not in finished + last and "<img" not in finished + last
        assert "<b>" not in finished + last


def test_news_is_what_was_not_taken() -> None:
    text = Growing()
    seen = [text.has_news]
    for piece in ("", "a", ""):
        text.add(piece)
        seen.append(text.has_news)
    text.take()
    assert [*seen, text.has_news] == [False, False, True, True, False]


def test_many_blocks_are_rendered_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = []
    monkeypatch.setattr(
        "annotate.text.markdown._safe", lambda html: lengths.append(len(html)) or html
    )
    written([f"Paragraph {number}.\n\n" for number in range(200)])
    assert max(accumulate(lengths, max)) < 100
