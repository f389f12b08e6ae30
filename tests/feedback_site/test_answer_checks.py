"""Checks: what passes them, how they are written, and what is said of mistakes."""

import random

import pytest

from feedback_site.answer_checks import CHECKS
from feedback_site.answer_checks.check import CheckError
from feedback_site.answer_checks.hangman import Game, guess_in
from feedback_site.answer_checks.written import read_checks
from rlhf.learning.contract.config import from_dict
from rlhf.learning.contract.hyperparameters import ConfigError


def score(written: str, completion: str, reference: str = "") -> float:
    [part] = read_checks(written)
    return part.check.score(completion, reference)


@pytest.mark.parametrize(
    ("written", "passing", "failing", "reference"),
    [
        ("exact", ["Paris", " paris\n"], ["Paris.", "in Paris", ""], "Paris"),
        ("exact", ["a b"], ["ab"], "A  b"),
        ("contains", ["It is PARIS."], ["London", ""], " Paris "),
        ("contains(fig| red plum)", ["a Fig", "red plums"], ["a plum", ""], ""),
        (r"regex(^\(a, b\)$)", ["(a, b)"], ["a, b", "(a, b) c"], ""),
        ("regex((?i)^yes|no$)", ["YES!", "oh no"], ["well"], ""),
        (
            "number",
            ["18", "so 9 + 9 = 18.", "$18.00", "**18**", "18 km", "9, 18"],
            ["", "eighteen", "18 or 19", "x18", "1,8", "-18", "118"],
            "Two nines.\n#### 18",
        ),
        ("number", ["1,234.5", "1234.50"], ["1234", "234.5"], "1,234.5"),
        ("number", ["5 - 8 = -3", "\N{MINUS SIGN}3"], ["3", "0-3"], "-3"),
        ("number(0.5)", ["2.5", "3.5"], ["2.4", "3.6"], "3"),
        ("number", ["9" * 40], ["9" * 39 + "8"], "9" * 40),
        ("json", ["{}", "[1, 2]", " 3 "], ["", "{", "```json\n{}\n```", "[" * 99999], ""),
        ("json(name, age)", ['{"age": 1, "name": 2, "x": 3}'], ['{"name": 1}', "[]"], ""),
        ("length(2-3)", ["a b", "a\n b  c"], ["", "a", "a b c d"], ""),
        ("choice(A|B|C)", ["(B)", "A is wrong, so B.", "B"], ["", "b", "B, no: C", "AB"], "B"),
        ("choice(yes|no)", ["Yes.", "No... yes"], ["know", "yes, no", "yess"], "yes"),
        ("lacks(?|!)", ["Eight minutes."], ["How long?", "Now!", ""], ""),
        ("unlike((?i)sorry)", ["Here you are."], ["I am SORRY.", ""], ""),
        ("nearer(boil the egg|eat it raw)", ["Boil an egg."], ["Eat the egg raw.", "No.", ""], ""),
        ("within(10-20)", ["10", "about 15.5 km", "3 and 20"], ["9.9", "12 or 21", "ten", ""], ""),
        ("within(-5..5)", ["-5", "0"], ["-6", "6"], ""),
        (
            'json-schema({"type": "object", "required": ["age"], "properties": {"age":'
            ' {"type": "integer", "minimum": 0}, "id": {"pattern": "^[a-z]+$"}}})',
            ['{"age": 3}', '{"age": 0, "id": "ab"}'],
            ['{"age": -1}', "{}", "[]", '{"age": 3, "id": "A"}', "age: 3", "[" * 99999],
            "",
        ),
        ('json-schema({"$ref": "#"})', [], ["1"], ""),
        ('json-schema({"$ref": "https://example.invalid/schema"})', [], ["1"], ""),
        (
            'json-schema({"patternProperties": {"^n": {"type": "number"}}})',
            ['{"n1": 1, "x": "y"}'],
            ['{"n1": "one"}'],
            "",
        ),
        (
            "html",
            ["<p>Hello</p>", "<ul><li>One<li>Two</ul>", "<p>a<br>b</p>", "<hr/>"],
            ["Hello", "<p>Hello</i>", "<b>Hello", "<foo>x</foo>", "Here: <p>x</p>", "</p>", "<3 >"],
            "",
        ),
        ("language(de)", ["Das ist ein Ei und nicht der Topf."], ["It is an egg.", "42"], ""),
        ("language(ja)", ["卵をゆでます。"], ["An egg"], ""),
        (
            "refusal",
            [
                "I'm sorry, but I can't help with that.",
                "I can’t do that.",
                "As an AI language model, I have no opinion.",
                "I am unable to answer.",
            ],
            ["Boil it.", "He said: nobody may enter.", "x" * 300 + " I am sorry"],
            "",
        ),
        ("no-refusal", ["Boil it for eight minutes."], ["I cannot help with that.", ""], ""),
        ("similar(0.5)", ["the red plum", "A red plum!"], ["a green fig", ""], "a red plum"),
        (
            "readable",
            [
                "Paris",
                "42",
                "Boil the egg for eight minutes, then cool it.",
                "卵をゆでます。",
                '["apple", "pear", "fig", "plum", "grape", "melon", "lemon", "cherry", "date"]',
                "Die Hauptstadt von Frankreich ist Paris und nicht Lyon, wie manche glauben.",
            ],
            [
                "",
                "?!...",
                "xkj qpw vbn lkjh",
                "qwer asdf zxcv hjkl",
                "the the the the the the the",
                "table lantern seven purple ago window running fast brick green",
                "egg " * 50,
            ],
            "",
        ),
    ],
)
def test_a_check_passes_what_it_names(written, passing, failing, reference):
    assert {text: score(written, text, reference) for text in passing} == dict.fromkeys(passing, 1)
    assert {text: score(written, text, reference) for text in failing} == dict.fromkeys(failing, 0)


def test_the_likeness_is_the_token_f1_unless_a_share_is_asked_for():
    assert score("similar", "a red fig", "a red plum") == pytest.approx(2 / 3)
    assert score("similar", "plum plum", "plum") == pytest.approx(2 / 3)


@pytest.mark.parametrize("seed", range(5))
def test_no_random_letters_are_readable(seed):
    rng = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ("".join(rng.choices(letters, k=rng.randint(3, 8))) for _ in range(12))
    assert score("readable", " ".join(words)) == 0


def test_every_check_says_what_passes_it_and_takes_its_own_example():
    assert set(CHECKS) == {
        *("choice", "contains", "exact", "hangman", "html", "json", "json-schema", "judge"),
        *(
            "lacks",
            "language",
            "length",
            "means",
            "nearer",
            "no-refusal",
            "number",
            "readable",
            "refusal",
        ),
        *("regex", "similar", "supported", "unlike", "within"),
    }
    for name, check in CHECKS.items():
        assert check.name == name
        assert check.meaning
        [part] = read_checks(f"{name}({check.setting})" if check.setting else name)
        assert part.check.score("") == 0


def test_several_checks_are_separated_by_commas_or_lines_that_are_in_no_parentheses():
    written = "number:1, json(name, age)\nlength(5-200): 0.2,\n regex([0-9]{1,2}\\)):-3,number"
    parts = read_checks(written)
    assert [(each.name, each.weight) for each in parts] == [
        ("number", 1.0), ("json", 1.0), ("length", 0.2), ("regex", -3.0), ("number_2", 1.0),
    ]  # fmt: skip
    assert parts[3].check.given == "[0-9]{1,2}\\)"
    assert read_checks("") == read_checks(" \n,") == []


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("nmber", r"there is no check 'nmber'; known are choice, contains, exact"),
        ("number:0", r"weight of number must be a number other than 0, not '0'"),
        ("number:much", r"weight of number must be a number other than 0, not 'much'"),
        ("number:nan", r"weight of number"),
        ("number:inf", r"weight of number"),
        ("number 1", r"'number 1' is no check: write name\(setting\):weight"),
        ("json(a", r"parentheses do not match .* write \\\( or \\\)"),
        ("json)(", r"parentheses do not match"),
        ("exact(3)", r"exact takes no setting, but has \(3\)"),
        ("number(x)", r"number\(x\): the setting is a tolerance, e.g. number\(0.01\)"),
        ("number(-1)", r"tolerance"),
        ("number(nan)", r"tolerance"),
        ("length", r"length needs a setting, e.g. length\(5-200\)"),
        ("length(9-5)", r"the fewest and the most words"),
        ("regex(a**)", r"regex\(a\*\*\): the pattern is wrong"),
        ("regex((?=a))", r"no lookaround and no backreferences"),
        ("choice(A)", r"name two or more, e.g. choice\(A\|B\|C\|D\)"),
        ("contains(|)", r"names no text"),
        ("lacks(|)", r"names no text"),
        ("within(9-5)", r"the least and the greatest number"),
        ("within(few)", r"the least and the greatest number"),
        ("similar(2)", r"a share above 0"),
        ("similar(x)", r"a share above 0"),
        ("language(xx)", r"known are ar, de, el, en"),
        ("json-schema({)", r"no JSON"),
        ('json-schema({"type": "thing"})', r"the schema is wrong"),
        ('json-schema({"items": {"pattern": "(?=a)"}})', r"no lookaround"),
    ],
)
def test_a_mistake_in_a_check_is_named(written, message):
    with pytest.raises(CheckError, match=message):
        read_checks(written)
    config = {
        "kind": "grpo", "models": {"policy": "p"}, "data": {"train": "t"},
        "train": {"checks": written},
    }  # fmt: skip
    with pytest.raises(ConfigError, match="GRPO.checks: "):
        from_dict(config)


def test_a_config_that_knows_no_checks_is_as_it_was():
    old = {"kind": "grpo", "models": {"policy": "p", "reward": "r"}, "data": {"train": "t"}}
    train = from_dict(old).train
    assert (train.checks, train.reward_weight, train.reward_clip) == ("", 1.0, 0.0)


MILL = ["The mill was built in 1764 by Anna Vogel.", "It grinds rye and wheat."]


@pytest.mark.parametrize(
    ("answer", "is_supported"),
    [
        ("The mill was built in 1764 [1].", True),
        ("The mill was built in 1764. [1] It grinds rye [2].", True),
        ("Anna Vogel built it in 1764. [1]\nThat is all I know.", True),
        ("It grinds wheat, and Anna Vogel built it [1, 2].", True),
        ("The mill was built in 1801 [1].", False),
        ("The mill was built in 1764 [2].", False),
        ("The mill was built in 1764 [3].", False),
        ("The mill was built in 1764 [1]. Its owner sells golden watches [2].", False),
        ("The mill was built in 1764.", False),
        ("[1]", False),
    ],
)
def test_what_is_cited_must_stand_in_the_passage(answer, is_supported):
    (part,) = read_checks("supported")
    assert part.check.score(answer, "", MILL) == is_supported
    assert part.check.score(answer) == 0


def test_how_much_must_be_shared_can_be_set():
    (strict,) = read_checks("supported(1)")
    (lax,) = read_checks("supported(0.5)")
    answer = "Anna Vogel founded it [1]."
    assert (strict.check.score(answer, "", MILL), lax.check.score(answer, "", MILL)) == (0, 1)
    with pytest.raises(CheckError, match="share of words"):
        read_checks("supported(2)")


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("E", "e"),
        ("e.", "e"),
        ("I guess E", "e"),
        ("I guess the letter A.", "a"),
        ("I say “T”!", "t"),
        ("Is there a T?", "t"),
        ("I'd take A", "a"),
        ("Let's guess: s", "s"),
        ("A", "a"),
        ("Ä", "ä"),
        ("apple or pear", ""),
        ("42", ""),
        ("", ""),
    ],
)
def test_a_guess_is_found_in_an_answer(answer, letter):
    assert guess_in(answer) == letter


def test_hangman_is_won_by_all_letters_or_the_word_and_lost_by_six_wrong_ones():
    [part] = read_checks("hangman")
    won = part.check.score("n", "Banana", (), ["b", "x", "a"])
    assert (won, part.check.score("It is BANANA!", "banana")) == (1, 1)
    assert part.check.score("n", "banana", (), ["b"]) == 0
    assert part.check.score("n", "banana", (), [*"bacdefgh"]) == 0, "six were wrong before"
    assert part.check.score("n", "banana", (), [*"baacdefg"]) == 0, "twice the same is wrong"
    game = Game("Egg").after(["g", "no idea"])
    assert (game.shown, game.wrong, game.is_over) == ("_ g g", 1, False)
    assert "no single letter" in game.reply and "5 more times" in game.reply
