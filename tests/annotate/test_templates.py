"""Templates: words under a name, in versions that never change."""

import pytest
from django.core.exceptions import ValidationError

from annotate.models import Grid, PromptTemplate
from annotate.playground.grids import Column

PLAYGROUND = "/p/cooking/playground/"
HOME = f"{PLAYGROUND}templates/"


@pytest.fixture
def keep(project, olga):
    def make(words, *, name="brief", **more):
        return PromptTemplate.keep(
            project=project, name=name, author=olga, system_prompt=words, **more
        )

    return make


def test_what_is_kept_again_is_the_next_version(keep):
    first = keep("Be brief.")
    assert keep("Be brief.") == first, "the same words are no new version"
    second = keep("Be very brief.", name=" brief ", note="Too long")
    assert [str(each) for each in first.versions] == ["brief v2", "brief v1"]
    assert second.before == first and first.before is None
    assert str(keep("Be brief.")) == "brief v3", "back again is a version too"
    assert str(keep("Be brief.", name="other")) == "other v1"
    for name, words in (("", "Be brief."), ("x", "")):
        with pytest.raises(ValidationError):
            keep(words, name=name)


def test_who_changed_what_and_when_is_shown(browse, olga, project):
    client = browse(olga)
    assert "None yet." in client.get(HOME).text
    said = {"name": "brief", "system_prompt": "Be brief.", "few_shot": "User: Hi\nAssistant: Hm"}
    page = client.post(HOME, said, follow=True).text
    assert "brief v1" in page and "Assistant: Hm" in page
    first = PromptTemplate.objects.get()
    said = {"system_prompt": "Be very brief.", "note": "Answers were long"}
    refused = client.post(f"{HOME}{first.pk}/", said | {"prompt_format": "no place"})
    assert refused.status_code == 422 and "Be very brief." in refused.text
    page = client.post(f"{HOME}{first.pk}/", said, follow=True).text
    assert "What changed since version 1" in page
    assert "Be <ins>very </ins>brief." in page and "<del>" in page
    assert "olga" in page and "Answers were long" in page
    latest = PromptTemplate.objects.order_by("version").last()
    back = client.get(f"{HOME}{first.pk}/", {"with": latest.pk}).text
    assert "Be <del>very </del>brief." in back
    assert "brief v2" in client.get(HOME).text and "brief v1" not in client.get(HOME).text


def test_a_column_takes_the_words_of_a_version_and_its_policy_names_it(
    browse, olga, project, live, keep
):
    keep("Be rude.")
    version = keep("Be brief.", few_shot=[], prompt_format="<{prompt}>")
    keep("Be silent.")
    client = browse(olga)
    form = {"prompts": "Why?", "checks": "", "c0-weights": live.pk, "c0-template": version.pk}
    form |= {"c0-system_prompt": "Other", "c0-temperature": 0.5, "c0-max_new_tokens": 9}
    assert client.post(PLAYGROUND, form).status_code == 302
    grid = Grid.objects.get()
    column = grid.column(0)
    assert (column.system_prompt, column.prompt_format) == ("Be brief.", "<{prompt}>")
    assert "brief v2" in client.get(f"{PLAYGROUND}{grid.pk}/").text
    client.post(f"{PLAYGROUND}{grid.pk}/columns/0/save/", {"name": "terse"})
    assert project.policies.get(name="terse").template == version
    assert "terse" in client.get(f"{HOME}{version.pk}/").text
    assert "brief v2" in client.get("/p/cooking/policies/").text


def test_a_column_is_kept_as_a_template(browse, olga, project, live):
    columns = [Column(live.pk, system_prompt="Be brief."), Column(live.pk)]
    grid = Grid.lay_out(project=project, author=olga, prompts=["Why?"], columns=columns)
    where = f"{PLAYGROUND}{grid.pk}/columns"
    page = browse(olga).post(f"{where}/0/template/", {"name": "terse"}, follow=True).text
    assert "“terse v1” is kept." in page
    assert "Keep as template" not in page, "the other column has no words"
    assert browse(olga).post(f"{where}/1/template/", {"name": "bare"}).status_code == 422
    assert browse(olga).post(f"{where}/9/template/", {"name": "bare"}).status_code == 404


def test_templates_are_the_operators_of_their_project(browse, alice, mallory, keep):
    version = keep("Be brief.")
    assert browse(alice).get(f"{HOME}{version.pk}/").status_code == 403
    assert browse(mallory).get(f"{HOME}{version.pk}/").status_code == 404
