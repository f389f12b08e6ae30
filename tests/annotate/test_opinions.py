"""Judges as checks: each answer is judged once by each judge, in grids as in suites."""

import pytest

from annotate import jobs
from annotate.chat import inference
from annotate.documents.models import Embedder
from annotate.judges.opinions import CannotJudge, opinion_of
from annotate.models import Cell, Grid, Judge, Opinion
from annotate.playground.grids import Column
from annotate.playground.rows import Row
from feedback_site.answer_checks.check import CheckError
from feedback_site.answer_checks.written import read_checks

HOME = "/p/cooking/playground/"
RUBRIC = "It names the minutes."

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def judge(project, olga, chef):
    return Judge.objects.create(
        project=project, name="strict", policy=chef, rubric=RUBRIC, form="yes_no", author=olga
    )


def is_judging(request):
    return RUBRIC in request["messages"][0]["content"]


def answers_and_judges(request):
    """Columns say what their system prompt says; the judge likes minutes."""
    if not is_judging(request):
        return request["messages"][0]["content"]
    shown = request["messages"][1]["content"].split("<ANSWER")
    if len(shown) == 3:
        return f"Verdict: {'A' if 'minutes' in shown[1] else 'B'}"
    return f"Verdict: {'yes' if 'minutes' in shown[1] else 'no'}"


@pytest.fixture
def grid(project, olga, chef, judge):
    def lay_out(*words, checks="judge(strict)", reference=""):
        columns = [Column(chef.pk, system_prompt=each) for each in words]
        rows = [Row.saying("How long?", reference=reference)]
        return Grid.lay_out(
            project=project, author=olga, prompts=rows, columns=columns, checks=checks
        )

    return lay_out


def test_a_judge_grades_the_answers_of_a_grid_each_of_them_once(browse, olga, grid, model_server):
    made = grid("Eight minutes.", "Eight minutes.", "Long.", checks="judge(strict), readable")
    model_server.says_to = answers_and_judges
    jobs.ask_cells(made.pk)
    while jobs.look():
        pass
    scores = [each.scores for each in made.cells.all()]
    assert scores == [
        {"readable": 1.0, "judge": 1.0},
        {"readable": 1.0, "judge": 1.0},
        {"readable": 1.0, "judge": 0.0},
    ]
    assert sum(map(is_judging, model_server.asked)) == 2, "the same answer is judged once"
    page = browse(olga).get(f"{HOME}{made.pk}/").text
    assert "judge: no" in page and "Is judged" not in page


def test_a_verdict_that_is_missing_takes_nothing_from_the_answer(browse, olga, grid, model_server):
    made = grid("Eight minutes.")
    model_server.says_to = answers_and_judges
    cell = made.cells.get()
    cell.answer(text="Eight minutes.", finish_reason="stop")
    Cell.objects.update(state="answered", text="Eight minutes.", unjudged=True)
    page = browse(olga).get(f"{HOME}{made.pk}/").text
    assert "Is judged" in page and "0 of 1 answered" in page
    model_server.status = 500
    jobs.look()
    cell.refresh_from_db()
    assert (cell.state, cell.scores, cell.trouble) == ("answered", {}, inference.FAILED)
    page = browse(olga).get(f"{HOME}{made.pk}/").text
    assert "1 of 1 answers are missing" in page and "Eight minutes." in page
    model_server.status = 200
    browse(olga).post(f"{HOME}{made.pk}/resume/")
    while jobs.look():
        pass
    assert made.cells.get().scores == {"judge": 1.0}
    assert len([each for each in model_server.asked if not is_judging(each)]) == 0


def test_a_judge_of_pairs_compares_with_the_reference_in_both_orders(
    browse, olga, grid, judge, model_server
):
    Judge.objects.update(form="pair")
    model_server.says_to = answers_and_judges
    made = grid("Eight minutes.", "Long.", reference="Quite long.")
    jobs.ask_cells(made.pk)
    while jobs.look():
        pass
    assert [each.scores["judge"] for each in made.cells.all()] == [1.0, 0.5]
    said = sorted(each.said for each in Opinion.objects.read_pairs())  # asked side by side
    assert said == [["A", "B"], ["B", "B"]]
    judge.refresh_from_db()
    page = browse(olga).get(f"/p/cooking/judges/{judge.pk}/").text
    assert "Answers judged as a check</dt><dd>2<" in page
    assert "First shown wins, as a check" in page and "25%" in page
    with pytest.raises(CannotJudge, match="there is none"):
        opinion_of(judge, [], "Long.")


def test_what_cannot_be_read_is_asked_once_more_and_is_no_verdict(judge, model_server):
    model_server.says = ["Perhaps."]
    opinion = opinion_of(judge, [{"role": "user", "content": "Why?"}], "So.")
    assert (opinion.said, len(model_server.asked)) == ([], 2)
    assert opinion_of(judge, [{"role": "user", "content": "Why?"}], "So.") == opinion
    assert len(model_server.asked) == 2


def test_a_judge_that_there_is_not_is_named(browse, olga, chef, judge):
    form = {"prompts": "Why?", "c0-weights": chef.pk, "c0-temperature": 1, "c0-max_new_tokens": 9}
    for checks, told in (
        ("judge(kind)", "There is no judge “kind”. The judges are: strict."),
        ("judge(strict, 9)", "a rating of 1 to 7"),
        ("judge", "needs a setting"),
    ):
        assert told in browse(olga).post(HOME, form | {"checks": checks}).text
    assert browse(olga).post(HOME, form | {"checks": "judge(strict, 6)"}).status_code == 302


@pytest.mark.parametrize(
    ("written", "verdicts", "score"),
    [
        ("judge(x)", ["yes"], 1),
        ("judge(x)", ["no"], 0),
        ("judge(x)", ["5"], 1),
        ("judge(x)", ["4"], 0),
        ("judge(x, 6)", ["5"], 0),
        ("judge(x)", ["A", "B"], 1),
        ("judge(x)", ["A", "A"], 0.5),
        ("judge(x)", ["B", "A"], 0),
        ("judge(x)", [], 0),
    ],
)
def test_verdicts_are_scores(written, verdicts, score):
    [part] = read_checks(written)
    assert part.check.score_of(verdicts) == score
    assert part.check.score("Whatever") == 0, "nobody was asked"


@pytest.fixture
def embedder(project, connection):
    return Embedder.objects.create(project=project, connection=connection, model_name="embed-1")


def test_an_embedding_model_says_whether_an_answer_means_the_same(
    browse, olga, grid, embedder, model_server
):
    vectors = {"Eight minutes.": [1.0, 0.0], "It takes eight.": [3.0, 4.0], "Long.": [0.0, -1.0]}
    model_server.vectors = vectors.__getitem__
    made = grid(*vectors, checks="means(0.5), means", reference="Eight minutes.")
    for cell in made.cells.all():
        text = made.columns[cell.column]["system_prompt"]
        Cell.objects.filter(pk=cell.pk).update(state="answered", text=text, unjudged=True)
    while jobs.look():
        pass
    scores = [list(each.scores.values()) for each in made.cells.all()]
    assert scores == [[1.0, pytest.approx(1)], [1.0, pytest.approx(0.6)], [0.0, 0.0]]
    assert "means: no" in browse(olga).get(f"{HOME}{made.pk}/").text


def test_trouble_with_the_embedding_model_takes_nothing_from_the_answer(
    grid, embedder, model_server
):
    made = grid("Eight.", checks="means(0.5), readable", reference="Eight minutes.")
    made.cells.update(state="answered", text="Eight.", unjudged=True, scores={"readable": 1.0})
    model_server.status = 500
    jobs.look()
    cell = made.cells.get()
    assert (cell.scores, cell.unjudged) == ({"readable": 1.0}, False)
    assert cell.trouble == "The server does not answer."


def test_without_an_embedding_model_the_check_is_refused(browse, olga, chef):
    form = {"prompts": "Why?", "c0-weights": chef.pk, "c0-temperature": 1, "c0-max_new_tokens": 9}
    reply = browse(olga).post(HOME, form | {"checks": "means(0.8)"})
    assert reply.status_code == 422 and "No embedding model is chosen" in reply.text


@pytest.mark.parametrize(
    ("written", "cosine", "score"),
    [
        ("means", 0.4, 0.4),
        ("means", -0.4, 0),
        ("means(0.8)", 0.8, 1),
        ("means(0.8)", 0.79, 0),
    ],
)
def test_cosines_are_scores(written, cosine, score):
    [part] = read_checks(written)
    assert part.check.score_of(cosine) == score
    assert part.check.score("Whatever", "Whatever") == 0, "nobody was asked"


@pytest.mark.parametrize("setting", ["0", "1.5", "much"])
def test_a_cosine_that_there_is_not_is_refused(setting):
    with pytest.raises(CheckError, match="write a cosine above 0"):
        read_checks(f"means({setting})")
