"""How tokens become what is said."""

import pytest

from rlhf.learning.serving.speech import Speech


def said(speech, ids, *, is_finished=False):
    return [*map(speech.add, ids), speech.rest(is_finished=is_finished)]


def test_a_character_of_several_tokens_arrives_whole(policy):
    text = "a 🙂 é 日本 b"
    ids = policy.render._plain(text)
    pieces = said(Speech(policy.render), ids)
    assert len(ids) > len(text) and "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)
    halved = "".join(said(Speech(policy.render), policy.render._plain("a🙂")[:-1]))
    assert halved == "a\ufffd"


@pytest.mark.parametrize(
    ("stops", "shown"),
    [
        (["sweet"], "The apple is "),
        (["is swe", "ple is"], "The ap"),
        (["The"], ""),
        (["round"], "The apple is sweet"),
        (["sweetest"], "The apple is sweet"),
        ([""], "The apple is sweet"),
    ],
)
def test_an_answer_ends_before_a_stop_text_wherever_its_tokens_are_cut(policy, stops, shown):
    text = "The apple is sweet"
    for ids in (policy.render._plain(text), [t for c in text for t in policy.render._plain(c)]):
        speech = Speech(policy.render, stops)
        pieces = said(speech, ids)
        assert "".join(pieces) == shown
        assert speech.is_over == (shown != text)


@pytest.mark.parametrize(
    ("lead", "closing", "written", "finished", "shown"),
    [
        ("<think>\n", "\n", "<think>\nYes.\n", True, "Yes."),
        ("<think>\n", "\n", "<think>\nYes.\n", False, "Yes.\n"),
        ("<think>\n", "", "<thin", False, "<thin"),
        ("<think>\n", "", "<think>\n", True, ""),
        ("", "\n", "one\ntwo\n", True, "one\ntwo"),
    ],
)
def test_what_the_template_writes_around_an_answer_is_none_of_it(
    policy, lead, closing, written, finished, shown
):
    speech = Speech(policy.render)
    speech.lead, speech.closing = lead, closing
    ids = policy.render._plain(written)
    assert "".join(said(speech, ids, is_finished=finished)) == shown
