"""Export → import into an empty project → export: the same bytes, whatever people wrote."""

import io
from itertools import count

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from annotate.exchange.exports.exporting import FORMATS, lines, write
from annotate.exchange.files.readers import escaped, unescaped
from annotate.exchange.importing import ImportFailed, import_labels
from annotate.models import (
    Demonstration,
    Feedback,
    Membership,
    Placement,
    Project,
    Prompt,
    Ranking,
    User,
)

pytestmark = pytest.mark.django_db
KINDS = ("prompts", "demonstrations", "rankings", "thumbs")
AWKWARD = [
    *("", " ", "\n", "a\r\nb", "a\rb", "one\n\n\ntwo", "\ttab", "end\n", " edge "),
    *('"', '""', "'", "a,b;c", '","', "[]", "[{", '[{"role": "user"}]', "{}", "null", "true", "1"),
    *("=1+1", "'=1", "''=1", " -1", "@x", "+", "-3", "#", "\\", "\\n", "\\u0000"),
    *(
        "\u2028",
        "\ufeff",
        "\x85",
        "\x1a",
        "é",
        "e\u0301",
        "ﷺ",
        "你好",
        "😀",
        "👩‍👩‍👧",
        "\u202e",
        "\x7f",
    ),
]
EVERYTHING = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
TEXTS = st.sampled_from(AWKWARD) | st.text(EVERYTHING, max_size=40)
SAID = TEXTS.filter(str.strip)
NUMBERS = count()


def maybe(values):
    return st.none() | values


@st.composite
def projects(draw) -> dict:
    """What people did in a small project, without what the same person says twice."""
    several = st.lists(TEXTS, min_size=2, max_size=5, unique_by=str.strip)
    answers = draw(several)
    return {
        "turns": draw(st.lists(SAID, min_size=1, max_size=3)),
        "system": draw(maybe(SAID)),
        "tags": draw(st.lists(SAID.filter(lambda tag: len(tag) <= 50), max_size=3)),
        "source": draw(TEXTS),
        "reference": draw(TEXTS).strip(),
        "is_archived": draw(st.booleans()),
        "written": draw(st.sampled_from(["", *Prompt.Kind.values])),
        "said": draw(st.lists(SAID, max_size=3, unique=True)),
        "comment": draw(TEXTS),
        "version": draw(maybe(st.integers(1, 99))),
        "share": draw(st.floats(0, 1)),
        "seconds": draw(st.integers(0, 2**31 - 1)),
        "answers": answers,
        "finish": draw(st.sampled_from(["", "stop", "length"])),
        "places": draw(st.permutations(range(1, len(answers) + 1))),
        "rating": draw(maybe(st.integers(1, 7))),
        "flags": draw(st.lists(st.sampled_from(Placement.Flag.values), max_size=2, unique=True)),
        "outcome": draw(st.sampled_from(Ranking.Outcome.values)),
        "strength": draw(maybe(st.integers(1, 4))) if len(answers) == 2 else None,
        "is_shown": draw(st.booleans()),
        "thumb": draw(st.booleans()),
        "reasons": draw(st.lists(st.sampled_from(Feedback.Reason.values), max_size=2)),
        "is_simulated": draw(st.booleans()),
    }


def new_project(by: User) -> Project:
    project = Project.objects.create(name="P", slug=f"p{next(NUMBERS)}")
    project.memberships.create(user=by, role=Membership.Role.OPERATOR)
    return project


def fill(project: Project, did: dict) -> None:
    turns = [{"role": "system", "content": did["system"]}] if did["system"] else []
    for number, turn in enumerate(did["turns"]):
        if number:
            turns.append({"role": "assistant", "content": "Go on."})
        turns.append({"role": "user", "content": turn})
    person = User.objects.create_user(f"who{next(NUMBERS)}", is_simulated=did["is_simulated"])
    project.memberships.create(user=person, role=Membership.Role.LABELER)
    about = {"project": project, "source": did["source"], "author": person}
    Prompt.objects.create(messages=[{"role": "user", "content": "First."}], **about)
    prompt = Prompt.objects.create(
        messages=turns,
        tags=did["tags"],
        reference=did["reference"],
        kind=did["written"],
        archived_at=timezone.now() if did["is_archived"] else None,
        **about,
    )
    label = {
        "prompt": prompt,
        "labeler": person,
        "source": did["source"],
        "comment": did["comment"],
        "guideline_version": did["version"],
        "pasted_share": did["share"],
        "active_seconds": did["seconds"],
    }
    for text in did["said"]:
        Demonstration.objects.create(text=text, **label)
    policy = project.policies.create(name="m", origin="base")
    answers = [
        prompt.completions.create(
            policy=policy, text=text, finish_reason=did["finish"], source="sampled"
        )
        for text in did["answers"]
    ]
    is_ranked = did["outcome"] == Ranking.Outcome.RANKED
    ranking = Ranking.objects.create(
        reason=did["comment"][:500],
        outcome=did["outcome"],
        strength=did["strength"] if is_ranked else None,
        shown_order=[each.pk for each in answers] if did["is_shown"] else [],
        **label,
    )
    for answer, place in zip(answers, did["places"], strict=True):
        fields = {"rating": did["rating"], "flags": did["flags"]}
        ranking.placements.create(completion=answer, place=place, **fields)
    Feedback.objects.create(
        completion=answers[0],
        user=person,
        thumb_up=did["thumb"],
        reasons=did["reasons"],
        note=did["comment"],
        wanted_answer=did["comment"],
    )


def exported(project: Project, kind: str, format: str) -> bytes:
    file = io.BytesIO()
    write(file, lines(project, kind), format)
    return file.getvalue()


@pytest.mark.parametrize("format", FORMATS)
@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(did=projects())
def test_what_goes_out_comes_in_and_goes_out_the_same(format, did, olga):
    with transaction.atomic():
        here = new_project(olga)
        fill(here, did)
        for kind in KINDS:
            there = new_project(olga)
            out = exported(here, kind, format)
            if not (kind == "demonstrations" and not did["said"]):
                import_labels(
                    io.BytesIO(out),
                    project=there,
                    by=olga,
                    kind=kind,
                    format=format,
                    source=f"x.{format}",
                )
            assert exported(there, kind, format) == out
        transaction.set_rollback(True)


@given(TEXTS)
def test_a_cell_is_no_formula_and_comes_back_as_it_was(text):
    assert unescaped(escaped(text)) == text
    assert not escaped(text).lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", ["prompt", "completion", "comment", "labeler", "source"])
def test_a_nul_character_is_refused_in_every_format_and_field(format, name, project, olga):
    import json

    file = io.BytesIO()
    line = {"prompt": "Why?", "completion": "So.", "comment": "", "labeler": "", "source": ""}
    line[name] = "a\0b"
    if format == "csv":
        file.write(f"{','.join(line)}\n{','.join(line.values())}\n".encode())
    elif format == "jsonl":
        file.write(json.dumps(line).encode())
    else:
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist([line]), file)
    file.seek(0)
    with pytest.raises(ImportFailed, match="NUL character"):
        import_labels(file, project=project, by=olga, format=format)
    assert not Prompt.objects.exists()


def test_an_export_of_nothing_is_a_file_too(project):
    for format in FORMATS:
        assert isinstance(exported(project, "prompts", format), bytes)


def test_a_large_parquet_comes_in_several_row_groups(project, olga, new_prompt, monkeypatch):
    from pyarrow import parquet

    monkeypatch.setattr("annotate.exchange.exports.columnar.ROW_GROUP", 200)
    for number in range(9):
        new_prompt(f"Question {number}?")
    out = exported(project, "prompts", "parquet")
    assert parquet.ParquetFile(io.BytesIO(out)).metadata.num_row_groups > 2
    there = new_project(olga)
    import_labels(io.BytesIO(out), project=there, by=olga, format="parquet")
    assert exported(there, "prompts", "parquet") == out
