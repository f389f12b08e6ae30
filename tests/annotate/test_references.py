"""Reference answers: how they come in with prompts, stay with them, are seen, and go out again."""

import json

import pytest
from django.urls import reverse

from annotate.exchange.columns import guess
from annotate.exchange.exports.exporting import lines
from annotate.exchange.files.bad_row import BadRow
from annotate.exchange.parsing import parse
from annotate.models import Demonstration, Prompt

pytestmark = pytest.mark.django_db
GSM8K = {"question": "How many?", "answer": "16 - 3 = 13.\nTwo each: 26.\n#### 26"}


def references() -> dict[str, str]:
    return dict(Prompt.objects.values_list("text", "reference"))


def test_a_result_after_four_hashes_is_the_reference_and_the_whole_a_demonstration(bring):
    bring([GSM8K, {"question": "And?", "answer": "#### 1,000 \n"}])
    assert references() == {"How many?": "26", "And?": "1,000"}
    assert Demonstration.objects.get(prompt__text="How many?").text == GSM8K["answer"]


@pytest.mark.parametrize(
    ("columns", "fields"),
    [
        (["prompt", "reference"], {}),
        (["prompt", "ground_truth"], {"ground_truth": "reference"}),
        (["problem", "ground_truth"], {"problem": "prompt", "ground_truth": "reference"}),
        (
            ["problem", "solution", "answer"],
            {"problem": "prompt", "solution": "completion", "answer": "reference"},
        ),
        (["question", "answer"], {"question": "prompt", "answer": "completion"}),
        (["problem", "solution"], {"problem": "prompt", "solution": "completion"}),
    ],
)
def test_columns_under_other_names_are_guessed(columns, fields):
    assert guess([dict.fromkeys(columns, "x")]) == fields


@pytest.mark.parametrize(
    ("value", "kept"),
    [(" 42\n", "42"), (42, "42"), (1.5, "1.5"), (None, ""), ("", "")]
    + [([{"role": "assistant", "content": "42"}], "42")],
)
@pytest.mark.parametrize("more", [{}, {"completion": "c"}, {"chosen": "a", "rejected": "b"}])
def test_a_reference_is_a_text_a_number_or_a_message_beside_any_label(value, kept, more):
    assert parse({"prompt": "p", "reference": value, **more}, None)[1].reference == kept


@pytest.mark.parametrize("value", [True, {"a": 1}, [], "a\0"])
def test_what_is_no_reference_is_named(value):
    with pytest.raises(BadRow, match="“reference”"):
        parse({"prompt": "p", "reference": value}, None)


def test_prompts_that_are_there_get_the_reference_they_lack_and_keep_the_one_they_have(bring):
    bring([{"prompt": "a"}, {"prompt": "b", "reference": "1"}, {"prompt": "c"}])
    bring([{"prompt": "a", "reference": "7"}, {"prompt": "b", "reference": "2"}, {"prompt": "c"}])
    assert references() == {"a": "7", "b": "1", "c": ""}


def test_the_first_reference_of_a_file_counts_wherever_it_stands(bring):
    bring([{"prompt": "a"}, {"prompt": "a", "reference": "7"}, {"prompt": "a", "reference": "8"}])
    assert references() == {"a": "7"}


def test_a_reference_is_exported_with_its_prompt(bring, project):
    bring([{"prompt": "a", "reference": "7"}, {"prompt": "b"}])
    assert [json.loads(each)["reference"] for each in lines(project, "prompts")] == ["7", ""]


def test_operators_see_it_and_labelers_do_not(bring, project, browse, olga, alice):
    bring([{"prompt": "a", "reference": "forty-two"}])
    prompt = Prompt.objects.get()
    place = reverse("prompts_one", args=[project.slug, prompt.pk])
    assert "forty-two" in browse(olga).get(place).content.decode()
    assert browse(alice).get(place).status_code in (403, 404)
    project.tasks.create(kind="write", prompt=prompt)
    page = browse(alice).get(reverse("label", args=[project.slug]), follow=True)
    assert page.status_code == 200
    assert "forty-two" not in page.content.decode()
