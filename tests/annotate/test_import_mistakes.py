"""Import: what each mistake is told, and that nothing stays half done."""

import json

import pytest

from annotate.exchange.importing import ImportFailed
from annotate.models import Feedback, Prompt
from tests.annotate.conftest import HELLO, HI, ranking, rows

pytestmark = pytest.mark.django_db


GOOD = {"prompt": "A good line."}
LONG = "x" * 50_001
BAD = {
    "malformed JSON": (b'{"prompt": "Hello"', "Not valid JSON"),
    "a number too long": (b'{"prompt": ' + b"9" * 5000 + b"}", "Not valid JSON"),
    "no object": ([1, 2], "one JSON object"),
    "no known shape": ({"question": "Hello?"}, "Unknown format"),
    "a text alone": ({"text": "Once upon a time.", "meta": {}}, "on the page Documents"),
    "bad UTF-8": (b'{"prompt": "\xff"}', "UTF-8"),
    "half a character": (b'{"prompt": "\\ud800"}', "half a character"),
    "NUL": (b'{"prompt": "a\\u0000"}', "NUL"),
    "NaN": (b'{"prompt": "a", "score": NaN}', "NaN"),
    "deep nesting": (b'{"prompt": ' + b"[" * 100_000 + b"}", "Nested too deeply"),
    "a line too long": (b'{"prompt": "' + b"x" * (5 * 2**20) + b'"}', "Longer than 4 MB"),
    "a prompt too long": ({"prompt": LONG}, "50,001 characters, and at most 32,000"),
    "an empty prompt": ({"prompt": " "}, "no text"),
    "no messages": ({"prompt": []}, "There is no prompt"),
    "a message that is none": ({"prompt": ["Hello"]}, "a role and a content"),
    "an unknown role": ({"prompt": [{"role": "narrator", "content": "x"}]}, "role must be one of"),
    "the answer as prompt": ({"prompt": HI}, "come from the user"),
    "a system message late": ({"prompt": [{"role": "system", "content": "x"}] * 2}, "only come"),
    "tags that are no list": ({"prompt": "a", "tags": "b"}, "tags"),
    "a tag too long": ({"prompt": "a", "tags": ["b" * 51]}, "at most 50"),
    "a number as source": ({"prompt": "a", "source": 0}, "must be a text"),
}
BAD_LABELS = {
    "an empty completion": ({"prompt": "a", "completion": ""}, "is empty"),
    "a completion of the user": ({"prompt": "a", "completion": HELLO}, "assistant's message"),
    "a completion too long": ({"prompt": "a", "completion": LONG}, "50,001 characters"),
    "no prompt": ({"completion": "a"}, "There is no prompt"),
    "a ranking that misses a completion": (ranking(ranks=[1, 2]), "3 completions but 2 in “ranks”"),
    "an unranked completion": (ranking(ranks=[1, 2, None]), "misses a completion"),
    "a rank that is no number": (ranking(ranks=[1, 2, "3"]), "whole number"),
    "half a rank": (ranking(ranks=[1, 2, 2.5]), "whole number"),
    "an endless rank": (json.dumps(ranking()).replace("2]", "1e999]").encode(), "whole number"),
    "one completion": (ranking(completions=["a"], ranks=[1]), "2 to 9"),
    "ten completions": (ranking(completions=list("abcdefghij"), ranks=[1] * 10), "2 to 9"),
    "a twin": (ranking(completions=["a", "b", "a "]), "1 and 3 are the same"),
    "a rating of 8": (ranking(ratings=[8, 1, 1]), "between 1 and 7"),
    "an unknown flag": (ranking(flags=[["ugly"], [], []]), "must be one of"),
    "a shown order of others": (ranking(shown_order=[0, 1, 3]), "each position"),
    "letters that repeat": (ranking(letters=["A", "B", "B"]), "A, B, C once"),
    "letters that are none": (ranking(letters=[1, 2, 3]), "A, B, C once"),
    "a strength among three": (ranking(strength=2), "two completions"),
    "a margin of another scale": (
        {"prompt": "a", "chosen": "b", "rejected": "c", "margin": 0.7},
        "another scale",
    ),
    "chosen and rejected alike": ({"prompt": "a", "chosen": "b", "rejected": "b"}, "the same text"),
    "different prompts": (
        {"chosen": HELLO + HI, "rejected": HI + HI},
        "differ before their last turn",
    ),
    "a thumb of 1": ({"prompt": "a", "completion": "b", "label": 1}, "true or false"),
    "a completion of nobody": ({"prompt": "a", "completions": ["b"]}, "“ranks” is missing"),
    "no completion": ({"prompt": "a", "completions": []}, "is empty"),
    "a share of 2": ({"prompt": "a", "completion": "b", "pasted_share": 2}, "between 0 and 1"),
    "a labeler too long": (ranking(labeler="x" * 91), "at most 90"),
}


@pytest.mark.parametrize("bad, sentence", BAD.values(), ids=BAD)
def test_a_bad_line_is_named_and_nothing_is_left(bad, sentence, bring):
    before = rows()
    with pytest.raises(ImportFailed) as failed:
        bring([GOOD] * 6 + [bad] + [GOOD] * 3)
    [problem] = failed.value.problems
    assert (problem.line, failed.value.lines) == (7, 10)
    assert sentence in problem.sentence
    assert rows() == before


@pytest.mark.parametrize("bad, sentence", BAD_LABELS.values(), ids=BAD_LABELS)
def test_a_bad_label_is_named_and_nothing_is_left(bad, sentence, bring):
    before = rows()
    with pytest.raises(ImportFailed) as failed:
        bring([bad])
    [problem] = failed.value.problems
    assert sentence in problem.sentence
    assert rows() == before


@pytest.mark.parametrize("content", [b"", b"\n\n  \n"])
def test_an_empty_file_is_called_empty(content, bring):
    with pytest.raises(ImportFailed, match="the file is empty"):
        bring(content)


def test_kinds_may_not_mix(bring):
    with pytest.raises(ImportFailed, match="Line 2: This line holds demonstrations"):
        bring([GOOD, {"prompt": "a", "completion": "b"}])


def test_contradictory_thumbs_are_refused(bring):
    thumb = {"prompt": "a", "completion": "b", "label": True}
    with pytest.raises(ImportFailed, match="Line 2: olga gave this answer the other thumb"):
        bring([thumb, {**thumb, "label": False}])
    assert not Feedback.objects.exists()


def test_the_first_twenty_mistakes_are_shown_and_the_others_counted(bring):
    with pytest.raises(ImportFailed) as failed:
        bring([{"prompt": ""}] * 32)
    assert len(failed.value.problems) == 20
    assert str(failed.value).endswith("…and 12 more")


def test_a_mistake_far_down_undoes_the_batches_before_it(bring, monkeypatch):
    monkeypatch.setattr("annotate.exchange.importing.BATCH", 10)
    with pytest.raises(ImportFailed, match="Line 96"):
        bring([{"prompt": f"Question {n}?"} for n in range(95)] + [{"prompt": ""}])
    assert not Prompt.objects.exists()
