"""Answers that are given passages to read: what is kept of them, who sees them, how they go."""

import json

import pytest
from django.apps import apps
from django.db import connection as database

from annotate import jobs
from annotate.deletion import delete_document
from annotate.documents.consulting import consulted
from annotate.documents.models import Document, Passage
from annotate.labelling.queue import next_assignment
from annotate.labels.kinds.ranking.tasks import open_ranking
from annotate.models import Cell, Completion, Grid, Message, Policy, PromptFlag
from annotate.prompts.passages import block
from rlhf.learning.contract.hyperparameters import SampledPolicy
from rlhf.learning.contract.records import Prompt as LearningPrompt
from rlhf.learning.generation.sample import template
from tests.chats import ask, page_of
from tests.model_server import read_aloud

# What nobody can know who has not read it.
PLANTED = {
    "When was the Vogel mill built?": ("The Vogel mill was built in 1764.", "1764"),
    "Who painted the bakery sign?": ("The bakery sign was painted by Iro Quell.", "Quell"),
    "How many ovens stand in the cellar?": ("In the cellar stand exactly 17 ovens.", "17 ovens"),
    "What does a poppy crescent cost?": ("A poppy crescent does cost 2.35 crowns.", "2.35"),
    "Which flour goes into Sunday bread?": ("Into Sunday bread goes spelt flour.", "spelt"),
    "Where is the spare key of the shop?": ("The spare shop key hangs at Milo's.", "Milo"),
    "What is the name of the bakery cat?": ("The bakery cat has the name Tuff.", "Tuff"),
    "How long does the sourdough rest?": ("The sourdough does rest 31 hours long.", "31 hours"),
    "When does the market stall close?": ("The market stall does close at 13:40.", "13:40"),
    "Which river drives the great wheel?": ("A river called Elm drives the great wheel.", "Elm"),
}
QUESTION, (BUILT, YEAR) = next(iter(PLANTED.items()))
MILL = f"{QUESTION} The old chronicle tells it."


@pytest.fixture
def library(project):
    """One fact a document, each among other sentences."""
    for number, (fact, _) in enumerate(PLANTED.values()):
        around = f"Chapter {number}. {fact} More of this is told in the old chronicle."
        Document.add(project, [around], source=f"fact-{number}.txt")


@pytest.fixture
def reader(live, model_server):
    """The live policy, which reads three passages and knows nothing else."""
    model_server.says_to = read_aloud
    Policy.objects.filter(pk=live.pk).update(passages_read=3, few_shot=[])
    live.refresh_from_db()
    return live


def everything() -> str:
    """All rows of all tables, as text."""
    with database.cursor() as cursor:
        rows = []
        for model in apps.get_models():
            cursor.execute(f'SELECT t::text FROM "{model._meta.db_table}" t')
            rows += [row for (row,) in cursor.fetchall()]
    return "\n".join(rows)


@pytest.mark.django_db(transaction=True)
def test_four_ways_to_tell_a_model_what_it_cannot_know(
    project, olga, browse, reader, library, model_server
):
    trained = Policy.objects.create(
        project=project, name="trained", origin="trained", model_name="cook-2", max_new_tokens=64
    )
    form = {
        "facts": "\n".join(f"{asked} | {answer}" for asked, (_, answer) in PLANTED.items()),
        "model": reader.pk,
        "passages": 3,
        "trained": trained.pk,
    }

    def right() -> list[int]:
        """Of each way, how many facts it answered."""
        said = browse(olga).post("/p/cooking/documents/compare/", form)
        grid = Grid.objects.latest("pk")
        assert said["Location"].endswith(f"/{grid.pk}/")
        while jobs.ask_cells(grid.pk):
            pass
        cells = Cell.objects.filter(grid=grid)
        assert cells.answered().count() == len(cells) == 40
        if found := [each for each in cells if each.column == 2 and each.passages]:
            assert all(each.scores["supported"] == 1 for each in found if each.scores["contains"])
            assert (
                "Passages it was given"
                in browse(olga).get(f"/p/cooking/playground/{grid.pk}/cells/{found[0].row}/2/").text
            )
        return [sum(c.scores["contains"] for c in cells if c.column == way) for way in range(4)]

    bare, in_prompt, retrieval, pretrained = right()
    assert (bare, pretrained) == (0, 0)
    assert in_prompt >= 9
    assert retrieval >= 9
    for name in Document.objects.values_list("source", flat=True).distinct():
        delete_document(project, name)
    assert right() == [0, 0, 0, 0]


def test_the_passage_that_is_cited_is_the_one_that_says_so(project, reader, library, gus, browse):
    for number, (question, (_, fact)) in enumerate(PLANTED.items()):
        answer = ask(browse(gus), question)
        assert fact in answer.text
        cited = int(answer.text.rstrip("]").rpartition("[")[2])
        assert answer.passages[cited - 1]["name"] == f"fact-{number}.txt"


def test_an_answer_keeps_what_it_read_and_its_guest_sees_it(
    project, reader, library, gus, browse, model_server
):
    answer = ask(browse(gus), MILL)
    assert answer.text == f"{BUILT} [1]"
    assert answer.asked == [{"role": "user", "content": MILL}]
    assert model_server.asked[-1]["messages"] == answer.context
    assert answer.context == reader.messages_for(answer.asked, answer.passages)
    first = answer.passages[0]
    assert (first["number"], first["name"], first["version"]) == (1, "fact-0.txt", 1)
    assert BUILT in first["text"]
    assert first["score"] > answer.passages[-1]["score"]
    page = page_of(browse(gus), answer.conversation)
    assert page.index("fact-0.txt") < page.index("not cited")
    Document.add(project, ["The Vogel mill was built in 1801."], source="fact-0.txt")
    answer.refresh_from_db()
    assert BUILT in answer.passages[0]["text"]
    assert "1801" in ask(browse(gus), MILL).text


def test_a_policy_that_reads_nothing_looks_nothing_up(project, live, library, gus, browse):
    answer = ask(browse(gus), MILL)
    assert answer.passages == []
    assert "passage" not in json.dumps(answer.context)
    assert "Sources" not in page_of(browse(gus), answer.conversation)


def test_what_a_policy_reads_is_part_of_its_template():
    assert Policy(passages_read=3).template_hash != Policy().template_hash
    assert Policy(passages_read=3).template_hash != Policy(passages_read=4).template_hash


def test_only_as_many_passages_are_read_as_fit(project, reader, library, settings, tmp_path):
    settings.DATA_DIR = tmp_path
    asked = [{"role": "user", "content": MILL}]
    sizes = []
    for window in (200, 300, 4000):
        folder = tmp_path / f"model-{window}"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"max_position_embeddings": window}))
        fitted = Policy(project=project, folder=folder.name, passages_read=3, max_new_tokens=32)
        sizes.append(len(consulted(fitted, asked)))
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] == 3


def test_a_trainer_samples_with_the_same_words_as_the_chat(project, reader, library):
    asked = [{"role": "user", "content": MILL}]
    read = consulted(reader, asked)
    told = template(
        SampledPolicy("models/base", system_prompt=reader.system_prompt, few_shot=[]),
        LearningPrompt("1", tuple(asked), reads={reader.name: block(read)}),
        reader.name,
    )
    assert [*told] == reader.messages_for(asked, read)


def test_labelers_see_what_an_answer_read_and_can_flag_it(
    project, reader, library, gus, alice, browse
):
    answers = [ask(browse(gus), MILL).become_data(rated=False)]
    answers.append(
        Completion.objects.create(
            prompt=answers[0].prompt, policy=reader, text="In 1999 [1].", source="chat"
        )
    )
    open_ranking(project, [(answers[0].prompt_id, [a.pk for a in answers])], 1, "b")
    work = next_assignment(alice, project)
    page = browse(alice).get(f"/p/cooking/label/{work.pk}/").text
    assert page.count("Passages it was given") == 1
    assert "fact-0.txt" in page
    said = {"flag-reason": "unsupported", "flag-note": ""}
    browse(alice).post(f"/p/cooking/label/{work.pk}/flag/", said)
    assert PromptFlag.objects.get().reason == "unsupported"


def test_a_deleted_document_is_nowhere(project, reader, library, gus, olga, browse):
    answer = ask(browse(gus), MILL)
    answer.become_data(rated=False)
    Document.add(project, [f"{BUILT} Anew."], source="fact-0.txt")
    Message.objects.filter(pk=answer.pk).update(text="I forgot [1].")
    Completion.objects.update(text="I forgot [1].")
    assert YEAR in everything()
    page = (
        browse(olga)
        .post("/p/cooking/documents/delete/", {"source": "fact-0.txt"}, follow=True)
        .text
    )
    assert "fact-0.txt: deleted." in page
    assert BUILT not in everything()
    assert not Passage.objects.filter(document__source="fact-0.txt").exists()
    answer.refresh_from_db()
    assert answer.passages[0] == {**answer.passages[0], "name": "fact-0.txt", "deleted": True}
    assert answer.passages[1]["text"]
    assert "[deleted]" in answer.context[-1]["content"]
    assert "This document was deleted." in page_of(browse(gus), answer.conversation)
    assert ask(browse(gus), MILL).text != f"{BUILT} [1]"
