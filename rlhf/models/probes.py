"""Behaviour suites: prompts with checks, one a line, and what passes them.

    What is the capital of France? => contains(Paris), length(1-20), readable
    Name three fruits as a JSON list. => json
    What should {John|Jane}, a nurse with ten years of work, earn? => alike, readable

    My name is Ida. +++ What is my name? => contains(Ida)

After +++ the user goes on, behind the model's own answer; the last answer is checked.

The checks are those of feedback_site/answer_checks; all must pass. `{A|B}` in a prompt asks it
twice, once with each word, and both answers must pass; `alike` and `same` compare the two. Several
phrasings of such a question stand between ||, and are compared together:

    What does {Tom|Ann} earn? || Name the pay of {Tom|Ann}. => alike

What compares with a right answer finds it behind ==. ↵ is the end of a line within a text:

    Add them: ↵ 17 and 25 => number, length(1-10) == 42

Lines of an earlier form, “contains Paris”, “matches ^[0-9]+$”, “words 20”, are read as ever."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, product
from math import comb
from statistics import fmean

from django.core.exceptions import ValidationError

from feedback_site.answer_checks import CHECKS
from feedback_site.answer_checks.check import Check, CheckError
from feedback_site.answer_checks.exact import token_f1
from feedback_site.answer_checks.judge import Judged
from feedback_site.answer_checks.written import CheckedPart, read_checks

ARROW, NEXT_TURN, NEXT_PHRASING, REFERENCE = " => ", " +++ ", " || ", " == "
LINE_END, LINE_END_SPACED = re.compile(" ?↵ ?"), " ↵ "
CHOICE = re.compile(r"\{([^{}|]+)\|([^{}|]+)\}")
Verdicts = Callable[[Judged, str, str], float]  # check, prompt, answer → its score
PAIR = re.compile(r"(?:^|,)\s*(same|alike)\s*(?=,|$)")
# The earlier form: a name, a blank, a value → the check of today.
EARLIER = {
    "contains": "contains",
    "lacks": "lacks",
    "matches": "regex",
    "unlike": "unlike",
    "json": "json",
    "words": "length",
    "same": "",
}
WITHOUT_ARGUMENT = ("json", "same")
FEWEST_ARRANGEMENTS = 40  # fewer could not tell two distributions apart at 5 %
SIGNIFICANCE, PERMUTATIONS = 0.05, 500
MEANING = {
    **{
        f"{each.name}({each.setting})" if each.setting else each.name: each.meaning
        for each in CHECKS.values()
    },
    "alike": "the answers to {A|B} are alike but for that word: no further apart than chance puts "
    "them, over all samples and phrasings; equal, where these are fewer than four samples, or six "
    "phrasings",
    "same": "both answers to {A|B} are equal but for that word",
}


def turns_of(prompt: str) -> list[str]:
    """The user's turns of a prompt, in their order."""
    return [each.strip() for each in prompt.split(NEXT_TURN)]


@dataclass(frozen=True)
class Probe:
    """`prompts`: one, or two that differ in a word, of each phrasing; `words`: that word of each.
    `check` and `argument`: as they are written. `parts` None: a stored line that can no longer be
    read. `reference`: the right answer, where a check compares with it."""

    prompts: tuple[str, ...]
    check: str
    argument: str
    words: tuple[str, ...] = ()
    parts: tuple[Check, ...] | None = ()
    pair: str = ""
    reference: str = ""

    def passes(self, answers: Sequence[str]) -> bool:
        """Tells whether the answers pass, one a prompt."""
        return self.trials([[answer] for answer in answers]) == [True]

    def trials(
        self, answers: Sequence[Sequence[str]], judged: Verdicts | None = None
    ) -> list[bool]:
        """Tells of each sample whether it passes. `answers`: of each prompt its samples. `judged`:
        what a judge said of an answer to a prompt; without it what needs a judge fails."""
        if self.parts is None:
            return [False] * len(answers[0])
        alike = self._are_alike(answers)
        samples = zip(alike, *answers, strict=True)
        return [
            is_alike
            and all(
                self._fits(prompt, answer, judged)
                for prompt, answer in zip(self.prompts, sample, strict=True)
            )
            for is_alike, *sample in samples
        ]

    @property
    def judges(self) -> list[Judged]:
        """The judges that are asked about its answers."""
        return [each for each in self.parts or () if isinstance(each, Judged)]

    def _fits(self, prompt: str, answer: str, judged: Verdicts | None) -> bool:
        """An empty answer passes nothing: a server refused, or a model has nothing to say."""
        if not answer.strip():
            return False
        rules = [each for each in self.parts or () if not isinstance(each, Judged)]
        return all(each.score(answer, self.reference) == 1 for each in rules) and all(
            judged is not None and judged(each, prompt, answer) == 1 for each in self.judges
        )

    def _are_alike(self, answers: Sequence[Sequence[str]]) -> list[bool]:
        samples = len(answers[0])
        if not self.pair:
            return [True] * samples
        said = [
            [" ".join(answer.replace(word, "{}").split()) for answer in each]
            for each, word in zip(answers, self.words, strict=True)
        ]
        ones, others = said[::2], said[1::2]
        if self.pair == "alike" and arrangements(samples, len(ones)) > FEWEST_ARRANGEMENTS:
            return [p_value(ones, others) >= SIGNIFICANCE] * samples
        pairs = list(zip(ones, others, strict=True))
        return [all(one[n] == other[n] for one, other in pairs) for n in range(samples)]


def arrangements(samples: int, phrasings: int) -> int:
    """In how many ways chance can deal the answers to two words, phrasing by phrasing."""
    return comb(2 * samples, samples) ** phrasings


def p_value(ones: Sequence[Sequence[str]], others: Sequence[Sequence[str]]) -> float:
    """How often chance puts two sets of texts as far apart as these: a permutation test of the
    energy distance (Székely & Rizzo 2004) over 1 − token F1. The texts come by phrasing of the
    question, as many of each word, and change sides within their phrasing alone; two texts of each
    word or more."""
    samples, phrasings = len(ones[0]), len(ones)
    texts = [*chain(*ones), *chain(*others)]
    size = len(texts) // 2
    apart = [[1 - token_f1(one, other) for other in texts] for one in texts]
    everyone = range(len(texts))
    strata = [
        [each for each in everyone if each % size // samples == number]
        for number in range(phrasings)
    ]

    def distance(mine: Sequence[int]) -> float:
        theirs = sorted(set(everyone) - set(mine))
        between = fmean(apart[i][j] for i in mine for j in theirs)
        within = [fmean(apart[i][j] for i, j in combinations(g, 2)) for g in (mine, theirs)]
        return between - fmean(within)

    if arrangements(samples, phrasings) <= PERMUTATIONS:
        dealt = product(*(combinations(each, samples) for each in strata))
        drawn = [list(chain(*each)) for each in dealt]
    else:
        chance = random.Random(0)
        drawn = [list(everyone[:size])]
        drawn += [
            list(chain(*(chance.sample(each, samples) for each in strata)))
            for _ in range(PERMUTATIONS)
        ]
    seen = distance(everyone[:size])
    return fmean(distance(each) >= seen - 1e-9 for each in drawn)


def parse(text: str, *, is_stored: bool = False) -> list[Probe]:
    """Raises ValidationError with every bad line. A line that is stored may hold what can no longer
    be read, such as a pattern that RE2 does not know: such a probe is asked, and passed by nobody,
    until somebody rewrites it."""
    probes, problems = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            probes.append(_probe(line, is_stored=is_stored))
        except ValueError as error:
            problems.append(f"Line {number}: {error}")
    if problems:
        raise ValidationError(problems)
    return probes


def _probe(line: str, *, is_stored: bool) -> Probe:
    prompt, arrow, written = line.rpartition(ARROW)
    prompt, written = LINE_END.sub("\n", prompt.strip()), written.strip()
    if not arrow or not prompt:
        raise ValueError(f"write a prompt, then “{ARROW.strip()}” and a check.")
    asked_for, reference = _with_reference(written)
    check, argument, pair, parts = _checks(asked_for, bool(reference), is_stored=is_stored)
    check = check if check != asked_for else written
    if not is_stored and not all(map(str.strip, prompt.split(NEXT_TURN.strip()))):
        raise ValueError(f"write something before and after each “{NEXT_TURN.strip()}”.")
    if NEXT_TURN in prompt and any(isinstance(each, Judged) for each in parts or ()):
        raise ValueError("a judge is asked about a single question and its answer.")
    asked = [choice for phrasing in _phrasings(prompt) for choice in _choice(phrasing)]
    if pair and not asked:
        raise ValueError(f"“{pair}” needs a prompt with {{A|B}} in it.")
    if not asked:
        return Probe((prompt,), check, argument, (), parts, reference=reference)
    prompts, words = zip(*asked, strict=True)
    return Probe(prompts, check, argument, words, parts, pair, reference)


def _phrasings(prompt: str) -> list[str]:
    """Those between ||, where each has its {A|B}: two bars may be part of a question."""
    found = [each.strip() for each in prompt.split(NEXT_PHRASING)]
    return found if all(map(CHOICE.search, found)) else [prompt]


def _choice(prompt: str) -> list[tuple[str, str]]:
    """(prompt, word) of each of the two words; nothing where there is no {A|B}."""
    choices = list(CHOICE.finditer(prompt))
    if len(choices) > 1:
        raise ValueError("only one {A|B} in a prompt.")
    return [
        (prompt[: choice.start()] + word + prompt[choice.end() :], word)
        for choice in choices
        for word in choice.groups()
    ]


def _with_reference(written: str) -> tuple[str, str]:
    """What stands behind the arrow, cut into checks and the right answer: at the first == behind
    what reads as checks, for a setting may have one too."""
    parts = written.split(REFERENCE)
    for number in range(1, len(parts)):
        checks, reference = REFERENCE.join(parts[:number]), REFERENCE.join(parts[number:]).strip()
        try:
            if reference and read_checks(PAIR.sub("", checks).strip(" ,")):
                return checks, LINE_END.sub("\n", reference)
        except CheckError:
            continue
    return written, ""


def _checks(
    written: str, has_reference: bool, *, is_stored: bool
) -> tuple[str, str, str, tuple[Check, ...] | None]:
    """What stands behind the arrow: its name and value, the comparison of two answers, the
    checks."""
    name, _, argument = written.partition(" ")
    argument = argument.strip()
    is_earlier = name in EARLIER and (argument or name in WITHOUT_ARGUMENT) and not has_reference
    if name in EARLIER and not (argument or name in WITHOUT_ARGUMENT or has_reference):
        raise ValueError(f"“{name}” needs a value.")
    pairs = PAIR.findall(written)
    rest = PAIR.sub("", written).strip(" ,")
    try:
        if is_earlier:
            return name, argument, "same" if name == "same" else "", _earlier(name, argument)
        parts = read_checks(rest)
        if not parts and not pairs:
            raise ValueError(f"write a check after “{ARROW.strip()}”, such as contains(Paris).")
        if found := [each.name for each in parts if _is_for_grids(each.check)]:
            raise CheckError(f"{found[0]} works in grids of the playground only")
        if not has_reference and (found := _comparing(parts)):
            raise CheckError(f"{found[0]} needs the right answer behind it: {found[0]} == Paris")
        return written, "", pairs[0] if pairs else "", tuple(each.check for each in parts)
    except CheckError as error:
        if is_stored:
            return name, argument, "", None
        raise ValueError(f"{error}.".replace("..", ".")) from None


def _comparing(parts: Sequence[CheckedPart]) -> list[str]:
    """The names of those that compare with a right answer."""
    return [each.name for each in parts if each.check.needs_reference]


def written(turns: Sequence[str], checks: str, reference: str = "") -> str:
    """Writes a probe as its line: the user's turns, checks without an end of a line in them, the
    right answer where one is known. Raises ValidationError where no line says it."""
    asked = ["\n".join(each.strip().splitlines()) for each in turns]
    right = "\n".join(reference.strip().splitlines())
    said = [each.replace("\n", LINE_END_SPACED) for each in (*asked, right)]
    line = NEXT_TURN.join(said[:-1]) + ARROW + checks + (REFERENCE + said[-1]) * bool(right)
    line = f" {line}" if line.startswith("#") else line  # no remark
    probes = parse(line)
    if [(turns_of(*each.prompts[:1]), each.reference, each.pair) for each in probes] != [
        (asked, right, "")
    ]:
        raise ValidationError("a suite reads {A|B}, +++, =>, == and ↵ as signs of its own.")
    return line


def _is_for_grids(check: Check) -> bool:
    return bool(check.rests_on) and not isinstance(check, Judged)


def _earlier(name: str, argument: str) -> tuple[Check, ...]:
    """Raises CheckError."""
    if name == "same":
        return ()
    if name == "words":
        if not (argument.isdecimal() and len(argument) < 7 and int(argument)):
            raise CheckError("“words” needs a whole number, of six digits at most")
        argument = f"1-{argument}"
    return (CHECKS[EARLIER[name]](argument),)
