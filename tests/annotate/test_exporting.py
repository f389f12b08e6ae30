"""Export: the same shapes as import, whole files, and nobody's words against their will."""

import csv
import io
import json
from pathlib import Path

import pytest
from asgiref.sync import async_to_sync

from annotate.exchange.exports.exporting import KINDS, as_csv, lines, write_file
from annotate.exchange.files.readers import unescaped
from annotate.exchange.importing import import_labels
from annotate.labels.kinds.edit import Edit
from annotate.models import (
    Conversation,
    Demonstration,
    Feedback,
    Membership,
    Message,
    Placement,
    Policy,
    Project,
    Prompt,
    Ranking,
    User,
    Withdrawal,
)

pytestmark = pytest.mark.django_db

RAW = [kind for kind in KINDS if kind not in ("preferences", "consensus")]  # not derived


@pytest.fixture
def olga() -> User:
    return User.objects.create_user("olga")


def new_project(slug: str, olga: User) -> Project:
    project = Project.objects.create(name=slug, slug=slug)
    project.memberships.create(user=olga, role=Membership.Role.OPERATOR)
    return project


@pytest.fixture
def alpha(olga: User) -> Project:
    """A project with labels of every kind, with ties, flags, empty answers and odd characters."""
    project = new_project("alpha", olga)
    people = {
        name: User.objects.create_user(name, is_simulated=name.startswith("sim"))
        for name in ("alice", "bob", "sim-anna")
    }
    for person in people.values():
        project.memberships.create(user=person, role=Membership.Role.LABELER)
    base = project.policies.create(name="base", origin=Policy.Origin.BASE)
    sft = project.policies.create(name="sft", origin=Policy.Origin.TRAINED)
    talk = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi \u2028 there “you” 😀"},
    ]
    hello = project.prompts.create(messages=talk, source="chat", tags=["chat", "short"])
    why = project.prompts.create(messages=[{"role": "user", "content": "Why?"}])
    answers = [
        prompt.completions.create(policy=policy, text=text, source="sampled", finish_reason=reason)
        for prompt, policy, text, reason in [
            (hello, base, "Hello!", "stop"),
            (hello, sft, "Hi.\n\n- you", "stop"),
            (hello, sft, "", "length"),
            (why, sft, "Because.", "stop"),
            (why, base, "Why not?", ""),
        ]
    ]
    Demonstration.objects.create(
        prompt=hello, labeler=people["alice"], text="Hello. ", comment="odd", guideline_version=3
    )
    old = Demonstration.objects.create(prompt=why, labeler=people["bob"], text="Old")
    Demonstration.objects.create(prompt=why, labeler=people["bob"], text="New", supersedes=old)
    for original, person in ((answers[1], "alice"), (answers[3], "bob")):
        Edit.objects.create(
            prompt=original.prompt, labeler=people[person], original=original, text="Better 😀"
        )
    rank(
        people["alice"], hello, answers[:3], [1, 1, 2], shown=[2, 0, 1], rating=5, flags=["opinion"]
    )
    rank(people["sim-anna"], hello, answers[:3], [2, 1, 3], reason="shorter")
    rank(people["bob"], why, answers[3:], [2, 1], strength=4, active_seconds=70)
    rank(people["bob"], hello, answers[:2], [1, 1], outcome=Ranking.Outcome.ALL_BAD)
    Feedback.objects.create(
        completion=answers[0], user=people["bob"], thumb_up=False, reasons=["style"], note="meh"
    )
    return project


def rank(labeler, prompt, answers, places, shown=(), rating=None, flags=(), **fields) -> None:
    ranking = Ranking.objects.create(
        prompt=prompt, labeler=labeler, shown_order=[answers[i].pk for i in shown], **fields
    )
    for answer, place in zip(answers, places, strict=True):
        ranking.placements.create(completion=answer, place=place, rating=rating, flags=list(flags))


def exported(project: Project, kind: str, **options) -> list[dict]:
    return [json.loads(line) for line in lines(project, kind, **options)]


def without_margin(lines: list[dict]) -> list[dict]:
    """A margin is there only if all pairs of the export have one."""
    return [{name: line[name] for name in line if name != "margin"} for line in lines]


def bring(text: str, project: Project, olga: User, kind: str) -> None:
    import_labels(io.BytesIO(text.encode()), project=project, by=olga, kind=kind)


def test_what_goes_out_comes_in_again_and_goes_out_the_same(alpha, olga):
    beta = new_project("beta", olga)
    for kind in RAW:
        bring("".join(lines(alpha, kind)), beta, olga, kind)
    for kind in KINDS:
        assert list(lines(beta, kind)) == list(lines(alpha, kind))
        assert exported(beta, kind)


def test_comparisons_come_in_again_as_preferences(alpha, olga):
    beta = new_project("beta", olga)
    bring("".join(lines(alpha, "preferences")), beta, olga, "preferences")

    def pairs(project: Project) -> list[dict]:
        # Each becomes a ranking of two, whatever the ranking it comes from.
        return [line | {"ranking": ""} for line in exported(project, "preferences")]

    assert pairs(beta) == pairs(alpha)


def test_a_project_knows_its_own_export_again(alpha, olga):
    def rows():
        return [m.objects.count() for m in (Prompt, Demonstration, Ranking, Placement, Feedback)]

    before = rows()
    for kind in RAW:
        bring("".join(lines(alpha, kind)), alpha, olga, kind)
    assert rows() == before


def test_comparisons_are_the_pairs_in_which_one_is_better(alpha):
    pairs = [
        (line["labeler"], line["chosen"][0]["content"], line["rejected"][0]["content"])
        for line in exported(alpha, "preferences")
    ]
    assert sorted(pairs) == [
        ("alice", "Hello!", ""),
        ("alice", "Hi.\n\n- you", ""),
        ("bob", "Why not?", "Because."),
        ("sim-anna", "Hello!", ""),
        ("sim-anna", "Hi.\n\n- you", ""),
        ("sim-anna", "Hi.\n\n- you", "Hello!"),
    ]


def test_a_consensus_is_the_mean_place_of_all_who_ranked_the_same(alpha):
    of_hello, of_why = exported(alpha, "consensus")
    ranks = dict(zip(of_hello["completions"], of_hello["ranks"], strict=True))
    assert ranks == {"Hello!": 2, "Hi.\n\n- you": 1, "": 3}  # 1 + 2, 1 + 1, 2 + 3
    assert (of_hello["labelers"], of_hello["agreement"]) == (2, 1.0)
    assert (of_why["labelers"], of_why["agreement"]) == (1, None)


def test_a_selection_goes_out_alone(alpha):
    why = alpha.prompts.filter(text="Why?")
    for kind in KINDS:
        chosen = exported(alpha, kind, prompts=why)
        of_all = [line for line in exported(alpha, kind) if line["prompt"] == why[0].messages]
        assert without_margin(chosen) == of_all


def test_the_page_exports_what_its_filter_finds(alpha, olga, browse):
    answer = browse(olga).get("/p/alpha/prompts/export/prompts/?words=&tag=short")
    said = b"".join(answer.streaming_content if not answer.is_async else _read(answer))
    assert [json.loads(line)["source"] for line in said.splitlines()] == ["chat"]


def _read(answer) -> list[bytes]:
    async def blocks():
        return [block async for block in answer.streaming_content]

    return async_to_sync(blocks)()


def test_each_line_of_a_simulated_labeler_says_so(alpha):
    for kind in ("rankings", "preferences"):
        for line in exported(alpha, kind):
            assert line.get("simulated", False) == (line["labeler"] == "sim-anna")


def test_only_the_current_revision_goes_out(alpha):
    texts = [line["completion"][0]["content"] for line in exported(alpha, "demonstrations")]
    assert texts == ["Hello. ", "New"]


def test_an_anonymous_export_names_nobody_and_tells_people_apart(alpha):
    for kind in KINDS:
        anonymous = "".join(lines(alpha, kind, anonymous=True))
        assert not any(name in anonymous for name in ("alice", "bob", "sim-anna", "odd", "meh"))
        assert anonymous == "".join(lines(alpha, kind, anonymous=True))
    names = [line["labeler"] for line in exported(alpha, "rankings", anonymous=True)]
    assert names[2] == names[3]
    assert len(set(names)) == 3


@pytest.fixture
def chat_thumb(alpha, olga):
    def thumb(improves_model: bool) -> Feedback:
        talk = Conversation.objects.create(project=alpha, guest=olga, improves_model=improves_model)
        answer = talk.messages.create(
            role=Message.Role.ASSISTANT,
            text="42",
            policy=alpha.policies.get(name="sft"),
            asked=[{"role": "user", "content": "What is it?"}],
            context=[
                {"role": "system", "content": "secret"},
                {"role": "user", "content": "What is it?"},
            ],
        )
        return Feedback.objects.create(message=answer, user=olga, thumb_up=True)

    return thumb


def test_a_thumb_in_a_chat_goes_out_with_what_was_asked(alpha, olga, chat_thumb):
    chat_thumb(improves_model=True)
    line = exported(alpha, "thumbs")[-1]
    assert line["prompt"] == [{"role": "user", "content": "What is it?"}]
    assert (line["completion"][0]["content"], line["label"], line["labeler"]) == (
        "42",
        True,
        "olga",
    )

    bring(json.dumps(line), alpha, olga, "thumbs")
    assert len(exported(alpha, "thumbs")) == 2  # it was known


@pytest.mark.parametrize(
    ("how", "ended_by"),
    [
        ({"finish_reason": "stop"}, "stop"),
        ({"finish_reason": "length"}, "length"),
        ({"state": "stopped"}, "stopped"),
        ({"state": "failed"}, "failed"),
    ],
)
def test_a_thumb_goes_out_with_what_ended_the_answer(how, ended_by, alpha, chat_thumb):
    thumb = chat_thumb(improves_model=True)
    Message.objects.filter(pk=thumb.message_id).update(**how)
    assert exported(alpha, "thumbs")[-1]["finish_reasons"] == [ended_by]


def test_a_pair_goes_out_with_what_ended_each_answer(alpha):
    reasons = {
        (line["rejected"][0]["content"], *line["finish_reasons"])
        for line in exported(alpha, "preferences")
    }
    assert reasons >= {("", "stop", "length"), ("Because.", "", "stop")}


def test_a_chat_whose_guest_said_no_stays_where_it_is(alpha, chat_thumb):
    before = exported(alpha, "thumbs")
    chat_thumb(improves_model=False)
    assert exported(alpha, "thumbs") == before


def hello_asked_by(guest: User, project: Project) -> Conversation:
    """As if this guest had asked what labelers have answered and ranked."""
    answer = project.prompts.get(source="chat").completions.get(text="Hello!")
    talk = Conversation.objects.create(project=project, guest=guest)
    talk.messages.create(role=Message.Role.ASSISTANT, text=answer.text, completion=answer)
    return talk


@pytest.mark.parametrize("given_up_by", ["deleting the chat", "saying no", "withdrawing"])
def test_what_a_guest_took_back_goes_out_in_no_kind(given_up_by, alpha, olga, chat_thumb):
    guest = User.objects.create_user("gus")
    talk = hello_asked_by(guest, alpha)
    chat_thumb(improves_model=True)  # by somebody else, in another chat
    before = {kind: exported(alpha, kind) for kind in KINDS}
    match given_up_by:
        case "deleting the chat":
            talk.erase()
        case "saying no":
            talk.allow_improving(allowed=False)
        case _:
            Withdrawal.withdraw(alpha, person=guest, by=olga)
    for kind in KINDS:
        left = [line for line in before[kind] if len(line["prompt"]) == 1]
        assert without_margin(exported(alpha, kind)) == left != before[kind]
        assert exported(alpha, kind, prompts=alpha.prompts.filter(text__startswith="Hi")) == []


def test_what_people_said_who_have_withdrawn_goes_out_in_no_kind(alpha, olga, chat_thumb):
    chat_thumb(improves_model=True)
    alice, bob = (User.objects.get(username=name) for name in ("alice", "bob"))
    alpha.prompts.filter(text="Why?").update(author=alice, kind=Prompt.Kind.PLAIN)
    for person in (alice, bob, olga):
        Withdrawal.withdraw(alpha, person=person, by=olga)
    left = {kind: exported(alpha, kind) for kind in KINDS}
    assert [line["source"] for line in left["prompts"]] == ["chat"]
    assert [line["labeler"] for line in left["rankings"]] == ["sim-anna"]
    assert [line["labelers"] for line in left["consensus"]] == [1]
    assert left["demonstrations"] == left["thumbs"] == []


def test_a_withdrawal_from_another_project_keeps_nothing_back(alpha, olga):
    before = [exported(alpha, kind) for kind in KINDS]
    for person in User.objects.all():
        Withdrawal.withdraw(new_project(f"p-{person}", olga), person=person, by=olga)
    assert [exported(alpha, kind) for kind in KINDS] == before


def test_nothing_of_another_project_goes_out(alpha, olga):
    gamma = new_project("gamma", olga)
    assert not any(exported(gamma, kind) for kind in KINDS)


def test_a_file_is_whole_or_as_it_was(tmp_path: Path):
    out = tmp_path / "out.jsonl"
    out.write_text("before")

    def broken():
        yield '"first"\n'
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_file(out, broken())
    assert out.read_text() == "before"
    assert list(tmp_path.iterdir()) == [out]
    assert write_file(out, ['"a"\n', '"b"\n']) == 2
    assert out.read_text() == '"a"\n"b"\n'


@pytest.mark.parametrize("kind", KINDS)
def test_a_spreadsheet_holds_a_row_a_line_and_every_name(alpha, kind):
    raw = exported(alpha, kind)
    rows = list(csv.DictReader(io.StringIO("".join(as_csv(lines(alpha, kind))), newline="")))
    assert len(rows) == len(raw)
    for row, line in zip(rows, raw, strict=True):
        assert set(line) <= set(row)
        assert json.loads(row["prompt"]) == line["prompt"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_line_has_every_name_and_a_split(alpha, chat_thumb, kind):
    chat_thumb(improves_model=True)
    found = exported(alpha, kind)
    assert len({tuple(line) for line in found}) == 1
    assert {line["split"] for line in found} <= set(Prompt.Split.values)


def test_a_margin_is_there_only_if_all_pairs_have_one(alpha):
    assert not any("margin" in line for line in exported(alpha, "preferences"))
    why = alpha.prompts.filter(text="Why?")
    assert [line["margin"] for line in exported(alpha, "preferences", prompts=why)] == [4]


def test_labels_take_along_what_decides_their_split(alpha, olga):
    key = "f" * 64
    alpha.prompts.filter(text="Why?").update(split_key=key)
    beta = new_project("beta", olga)
    bring("".join(lines(alpha, "demonstrations")), beta, olga, "demonstrations")
    assert beta.prompts.get(text="Why?").split_key == key


def test_kinds_are_called_as_they_were_too(alpha):
    assert list(lines(alpha, "comparisons")) == list(lines(alpha, "preferences"))
    assert list(lines(alpha, "feedback")) == list(lines(alpha, "thumbs"))


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\r=1"])
def test_no_cell_of_a_spreadsheet_is_a_formula(text):
    rows = "".join(as_csv([json.dumps({"note": text, "count": -3, "plain": "1 - 1"})]))
    [row] = csv.DictReader(io.StringIO(rows, newline=""))
    assert row["note"] == f"'{text}"
    assert unescaped(row["note"]) == text
    assert (row["count"], row["plain"]) == ("-3", "1 - 1")
