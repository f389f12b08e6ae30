"""Which language a text is in, as far as a spell checker needs to know."""

import re
from collections import Counter

from .check import Check, CheckError

# By the script alone. Where several languages share one, the one with the most writers.
SCRIPTS = (
    ("ja", r"[\u3040-\u30ff]"),
    ("ko", r"[\uac00-\ud7af]"),
    ("zh", r"[\u4e00-\u9fff]"),
    ("uk", r"[іїєґІЇЄҐ]"),
    ("ru", r"[\u0400-\u04ff]"),
    ("el", r"[\u0370-\u03ff]"),
    ("he", r"[\u0590-\u05ff]"),
    ("ar", r"[\u0600-\u06ff]"),
    ("hi", r"[\u0900-\u097f]"),
    ("th", r"[\u0e00-\u0e7f]"),
)
# Of the languages in Latin letters: words so frequent that hardly a sentence does without, and that
# few of the others have.
FREQUENT = {
    "en": "the of and to is that for with are what how you this write which",
    "de": "der die das und ist nicht ein eine wie was ich mit für auf schreibe warum",
    "fr": "le les des est une pour dans que qui quel quelle vous je et comment écris",
    "es": "el los las una qué que por para con cómo es y cuál escribe del",
    "it": "il gli che una per con come è di perché sono della scrivi cosa",
    "pt": "o os uma que para com como é não do da em qual escreva você",
    "nl": "het een van en dat niet voor met hoe wat ik schrijf waarom zijn",
    "pl": "się nie jest na że jak co czy dla napisz oraz w z",
    "sv": "och att det är som en ett för inte hur vad jag skriv",
    "tr": "bir ve bu için ne nasıl mı ile çok neden da yaz",
}
CODES = sorted({*FREQUENT, *dict(SCRIPTS)})
FEWEST = 0.1  # of the words, before one says anything


def language_of(text: str) -> str:
    """The code of the language ("en"), or "" where it is not clear: then browsers go by what their
    owner writes."""
    letters = Counter(name for name, pattern in SCRIPTS for _ in re.findall(pattern, text))
    latin = len(re.findall(r"[A-Za-z\u00c0-\u024f]", text))
    if letters and letters.most_common(1)[0][1] * 2 > latin:
        return next(name for name, _ in SCRIPTS if letters[name])
    words = Counter(re.findall(r"[^\W\d_]+", text.lower()))
    hits = Counter(
        {name: sum(words[each] for each in known.split()) for name, known in FREQUENT.items()}
    )
    (first, most), (_, second) = hits.most_common(2)
    return first if most > second and most >= FEWEST * words.total() else ""


class Language(Check):
    name = "language"
    setting = "en"
    needs_setting = True
    meaning = "written in this language, given by its code of two letters"

    def __init__(self, setting: str = "") -> None:
        super().__init__(setting)
        self.code = setting.strip().casefold()
        if self.code not in CODES:
            raise CheckError(f"language({setting}): known are {', '.join(CODES)}")

    def passes(self, completion: str, reference: str) -> bool:
        return language_of(completion) == self.code
