"""The search of prompts: what it finds in which script, that an index finds it, and that pages,
bulk acts and exports mean the same prompts by it."""

import html
import json
import re
import unicodedata
from importlib import import_module
from itertools import combinations
from urllib.parse import quote

import pytest
from django.apps import apps
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from annotate.models import Prompt, Task
from annotate.prompts.models import LONGEST_PROMPT
from annotate.prompts.search import fold, folded_texts, grams, index_query

pytestmark = pytest.mark.django_db
PIRATE = [
    {"role": "system", "content": "You are a pirate zebra."},
    {"role": "user", "content": "Hello sailor"},
]
TEXTS = {
    "newton": "请解释什么是牛顿第一定律？",
    "tokyo": "日本の首都はどこですか",
    "cafe": "Où est le café près de la gare ?",
    "cafe_nfd": "cafe\u0301 in NFD form here",
    "cafe_plain": "A cafe without an accent",
    "path": "What does os.path.join() do in Python 3.11?",
    "hamlet": "To be,\nor  not to be",
    "cologne": "Straße in Köln",
    "leaves": "Что такое фотосинтез? Ещё один вопрос",
    "egypt": "ما هي عاصمة مصر؟",
    "peace": "שָׁלוֹם עולם",
    "templates": "Explain C++ vs C# templates",
    "istanbul": "İstanbul nerede? ISPARTA'dan kaç saat? ılık",
    "field": "Fix user_name_field in models.py with git --no-verify",
    "thai": "ภาษาไทยคืออะไร",
    "korean": "대한민국의 수도는 어디인가요?",
    "kana": "ｶﾞｲﾄﾞ と カイト",
    "half": r"100% of \alpha and a_b, don’t",
    "danish": "Rødgrød med fløde, łódź",
}
FOUND = {
    "牛顿": {"newton"},
    "首都": {"tokyo"},
    "都": {"tokyo"},
    "日本の首都": {"tokyo"},
    "ガイド": {"kana"},
    "カイド": set(),
    "수도": {"korean"},
    "ไทย": {"thai"},
    "คืออะไร": {"thai"},
    "คอ": set(),
    "cafe": {"cafe", "cafe_nfd", "cafe_plain"},
    "CAFÉ": {"cafe", "cafe_nfd", "cafe_plain"},
    "cafe\u0301": {"cafe", "cafe_nfd", "cafe_plain"},
    "ou": {"cafe", "cafe_plain", "pirate"},
    "path.join": {"path"},
    "os.path.join()": {"path"},
    "3.11": {"path"},
    "to be": {"hamlet"},
    '"to be or"': set(),
    '"to be, or not"': {"hamlet"},
    "“TO BE, OR NOT”": {"hamlet"},
    "or not": {"hamlet"},
    "not": {"hamlet"},
    "strasse": {"cologne"},
    "STRASSE koln": {"cologne"},
    "Straße": {"cologne"},
    "фотосинтез": {"leaves"},
    "ФОТО": {"leaves"},
    "еще": {"leaves"},
    "مصر": {"egypt"},
    "عاصمة": {"egypt"},
    "שלום": {"peace"},
    "C++": {"templates"},
    "c#": {"templates"},
    "istanbul": {"istanbul"},
    "ISPARTA": {"istanbul"},
    "ilik": {"istanbul"},
    "user_name_field": {"field"},
    "name_field": {"field"},
    "ser_name": {"field"},
    "a_b": {"half"},
    "axb": set(),
    "100%": {"half"},
    "1%": set(),
    "\\alpha": {"half"},
    "don't": {"half"},
    "--no-verify": {"field"},
    "rodgrod": {"danish"},
    "lodz": {"danish"},
    "zebra": {"pirate"},
    "zebra sailor": {"pirate"},
    '"zebra. hello"': set(),
    "zebra -sailor": set(),
    "cafe -gare": {"cafe_nfd", "cafe_plain"},
    'cafe -"without an"': {"cafe", "cafe_nfd"},
    "zebra OR 首都": {"pirate", "tokyo"},
    "cafe gare OR hello": {"cafe", "pirate"},
    "OR zebra OR": {"pirate"},
    '"zebra': {"pirate"},
}


@pytest.fixture
def names(project) -> dict[int, str]:
    """Id → name of each prompt."""
    made = {name: [{"role": "user", "content": text}] for name, text in TEXTS.items()}
    made["pirate"] = PIRATE
    return {
        Prompt.objects.create(project=project, messages=messages).pk: name
        for name, messages in made.items()
    }


def test_a_search_finds_in_any_script_what_contains_it(names):
    found = {
        words: {names[pk] for pk in Prompt.objects.matching(words).values_list("pk", flat=True)}
        for words in FOUND
    }
    assert found == FOUND


def test_what_was_stored_by_an_earlier_version_is_found_too(names):
    Prompt.objects.update(folded="", search="")
    assert not Prompt.objects.matching("zebra").exists()
    migration = import_module("annotate.migrations.0012_search_in_any_script")
    with connection.schema_editor(atomic=False) as editor:
        migration.index(apps, editor)
    for prompt in Prompt.objects.all():
        again = Prompt(messages=prompt.messages).derive()
        assert prompt.folded == again.folded
    assert [names[each.pk] for each in Prompt.objects.matching("zebra")] == ["pirate"]


TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=60)


@settings(deadline=None)
@given(text=TEXT)
def test_the_index_has_every_piece_of_a_text(text):
    folded = fold(text)[:20]
    ends = combinations(range(len(folded) + 1), 2)
    pieces = {folded[start:end].strip() for start, end in ends} - {""}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT piece FROM unnest(%s::text[], %s::tsquery[]) AS every (piece, query) "
            "WHERE NOT %s::tsvector @@ query",
            [list(pieces), [index_query(piece) for piece in pieces], grams(folded)],
        )
        assert not cursor.fetchall()


@given(text=TEXT)
def test_folding_twice_or_another_normal_form_changes_nothing(text):
    assert fold(fold(text)) == fold(text)
    assert fold(unicodedata.normalize("NFD", text)) == fold(unicodedata.normalize("NFC", text))


def test_the_longest_prompt_of_the_worst_letters_can_be_stored_and_found(project):
    letters = "".join(map(chr, [*range(0x4E00, 0x9FFF), *range(0x20000, 0x2A6DF)]))
    text = letters[: LONGEST_PROMPT - 10] + "\ufdfa" * 10
    Prompt.objects.create(project=project, messages=[{"role": "user", "content": text}])
    assert Prompt.objects.matching(letters[31_000:31_009]).exists()
    beyond = letters[:60_000] * 2
    Prompt.objects.create(project=project, messages=[{"role": "user", "content": beyond}])


def asked(words: bytes) -> str:
    """The query string of these bytes, as a browser or somebody who tries things would send it."""
    return f"words={quote(words)}"


NASTY = st.lists(
    st.sampled_from(
        [
            b"\x00",
            b"\xed\xa0\x80",
            b"'",
            b'"',
            b"\\",
            b"%",
            b"_",
            b"-",
            b"*",
            b":",
            b"&",
            b"|",
            b"!",
        ]
        + [b"(", b")", b"<->", b" OR ", b" ", b"a", b"\xcc\x81", b"\xf0\x9f\x98\x80", b"x" * 300]
    )
    | st.binary(max_size=4),
    max_size=12,
).map(b"".join)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(words=NASTY | st.text(max_size=30).map(lambda text: text.encode(errors="surrogatepass")))
def test_no_query_makes_an_error_of_the_site(words, operator, bake):
    answer = operator.get(f"{PROMPTS}?{asked(words)}")
    assert answer.status_code == 200
    posted = operator.post(f"{PROMPTS}mark/", asked(words) + "&new_tag=x&act=tag", FORM)
    assert posted.status_code in (302, 404)
    assert posted.status_code == 302 or "error" in answer.content.decode()


@pytest.mark.parametrize(
    "words, told",
    [
        (b"", None),
        (b"   ", None),
        (b"zebra", None),
        (b'""', "Words: There is nothing to search for. Type a word, or part of one."),
        (b"OR", "nothing to search for"),
        ("\u200d".encode(), "nothing to search for"),
        (b"x" * 201, "Search for a shorter piece, of at most 200 characters."),
        (b"a\x00b", "Take out the NUL character"),
    ],
)
def test_a_query_that_makes_no_sense_is_told_so_and_finds_nothing(words, told, operator, bake):
    page = operator.get(f"{PROMPTS}?{asked(words)}").content.decode()
    assert (told or "") in page
    assert ('class="error"' in page) == bool(told)
    assert (f"/prompts/{bake.pk}/" in page) == (told is None and not words.strip())


PROMPTS = "/p/cooking/prompts/"
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def operator(browse, olga):
    return browse(olga)


@pytest.fixture
def bake(project):
    messages = [{"role": "user", "content": "How do I bake bread?"}]
    return Prompt.objects.create(project=project, messages=messages)


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning")
@pytest.mark.parametrize(
    "filters",
    [
        {"words": "café"},
        {"words": "C++ OR 首都"},
        {"words": "-cafe", "split": "train"},
        {"words": "path.join"},
        {"words": "zebra", "archived": "on"},
        {"words": "to", "source": "book"},
    ],
)
def test_what_a_page_lists_a_bulk_act_changes_and_an_export_holds(filters, names, operator):
    Prompt.objects.filter(text__contains="sailor").update(archived_at=timezone.now())
    Prompt.objects.filter(text__contains="To be").update(source="book")
    page = operator.get(PROMPTS, filters).content.decode()
    listed = {int(pk) for pk in re.findall(r'href="/p/cooking/prompts/(\d+)/"', page)}
    assert listed
    hidden = re.findall(r'<input type="hidden"\s+name="(\w+)"\s+value="([^"]*)">', page)
    form = {name: html.unescape(value) for name, value in hidden} | {
        "act": "tag",
        "new_tag": "seen",
    }
    operator.post(f"{PROMPTS}mark/", form)
    assert {each.pk for each in Prompt.objects.tagged("seen")} == listed
    link = html.unescape(re.search(r'href="(/p/cooking/prompts/export/prompts/[^"]*)"', page)[1])
    lines = b"".join(operator.get(link)).splitlines()
    exported = [folded_texts(json.loads(line)["prompt"]) for line in lines]
    assert sorted(exported) == sorted(
        Prompt.objects.filter(pk__in=listed).values_list("folded", flat=True)
    )
    opened = operator.post(f"{PROMPTS}tasks/", form | {"kind": "write", "sure": "yes"})
    in_use = listed if "archived" not in filters else set()
    assert opened.status_code == 302
    assert set(Task.objects.values_list("prompt", flat=True)) == in_use


MANY = """
INSERT INTO annotate_prompt
    (project_id, messages, text, content_hash, split, source, tags, created_at, folded, search)
SELECT %s, jsonb_build_array(jsonb_build_object('role', 'user', 'content', t)), t, i, 'train', '',
    '{}', now(), t, array_to_tsvector(ARRAY(SELECT DISTINCT substr(word, place, 3)
        FROM string_to_table(t, ' ') word CROSS JOIN generate_series(1, length(word)) place))
FROM generate_series(1, 100000) i CROSS JOIN LATERAL (SELECT 'why does x' || i
    || CASE i %% 1000 WHEN 7 THEN ' use os.path.join' WHEN 8 THEN ' 日本の首都' WHEN 9 THEN ' c++'
        ELSE ' cost that' END AS t)"""


def test_among_a_hundred_thousand_prompts_an_index_finds_them(project, operator):
    with connection.cursor() as cursor:
        cursor.execute(MANY, [project.pk])
        cursor.execute("ANALYZE annotate_prompt")
    for words in ("path.join", "首都", "都", "c++", "x77777", '"C++" OR 首都', "首都 -x5008"):
        with CaptureQueriesContext(connection) as captured:
            page = operator.get(PROMPTS, {"words": words}).content.decode()
        assert " found</p>" in page
        searches = [each["sql"] for each in captured if '"folded"' in each["sql"]]
        searches = [each for each in searches if "tsquery" in each]
        assert len(searches) == 2, words  # the page and the count
        for statement in searches:
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN {statement}")
                plan = "\n".join(line for (line,) in cursor)
            assert "Bitmap Index Scan on prompts_by_word" in plan, f"{words}\n{plan}"
            assert "Seq Scan on annotate_prompt " not in plan, f"{words}\n{plan}"
