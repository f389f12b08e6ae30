"""The language of a text, for the spell checker of whoever answers it."""

import pytest

from feedback_site.answer_checks.languages import language_of


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What are the steps to write a letter?", "en"),
        ("Write a function that sorts the list.", "en"),
        ("Wie schreibe ich einen Brief an die Behörde?", "de"),
        ("Comment est-ce que je peux écrire une lettre pour les enfants ?", "fr"),
        ("¿Cómo escribo una carta para los niños?", "es"),
        ("Come si scrive una lettera per il comune?", "it"),
        ("Como é que eu escrevo uma carta para você?", "pt"),
        ("Hoe schrijf ik een brief voor het kind?", "nl"),
        ("Jak napisać list, czy to jest trudne?", "pl"),
        ("Hur skriver jag ett brev som inte är för långt?", "sv"),
        ("Bu mektup için ne yazmalıyım ve nasıl?", "tr"),
        ("Как написать письмо?", "ru"),
        ("Як написати лист своїй бабусі?", "uk"),
        ("Explain the word Борщ to a child: what is it and how do you cook it?", "en"),
        ("手紙の書き方を教えてください。", "ja"),
        ("怎么写一封信?", "zh"),
        ("편지를 어떻게 쓰나요?", "ko"),
        ("كيف أكتب رسالة؟", "ar"),
        ("", ""),
        ("42", ""),
        ("foo(bar); return baz", ""),
    ],
)
def test_the_language_of_a_prompt_is_told_or_left_open(text, language):
    assert language_of(text) == language
