"""Leads set how a project works; a guideline is read before work goes on."""

import pytest

from annotate.labelling.queue import next_assignment
from annotate.models import Membership
from annotate.views.project import SettingsForm


@pytest.fixture
def sent(project):
    """What the page sends when nobody changes anything."""
    form = SettingsForm(instance=project)
    values = {name: form[name].value() for name in form.fields}
    return {
        name: value for name, value in values.items() if value is not False and value is not None
    }


def test_every_setting_stands_in_one_group(project):
    form = SettingsForm(instance=project)
    shown = [field.name for _, fields in form.groups for field in fields]
    assert sorted(shown) == sorted(form.fields)
    assert all(form.fields[name].help_text for name in shown if name != "name")


def test_an_operator_changes_settings(project, olga, browse, sent):
    sent |= {"overlap": "3", "gold_every": "10"}
    answer = browse(olga).post("/p/cooking/settings/", sent)
    assert answer.status_code == 302
    project.refresh_from_db()
    assert (project.overlap, project.gold_every, project.slug) == (3, 10, "cooking")


@pytest.mark.parametrize(
    "name, value",
    [("overlap", "0"), ("ranking_size", "10"), ("rank_lease_minutes", "0"), ("name", "")],
)
def test_a_setting_out_of_range_saves_nothing_and_says_so(name, value, project, olga, browse, sent):
    answer = browse(olga).post("/p/cooking/settings/", sent | {"gold_every": "3", name: value})
    assert answer.status_code == 422
    assert answer.context["form"].errors.keys() == {name}
    assert "Nothing was saved" in answer.content.decode()
    project.refresh_from_db()
    assert project.gold_every == 20


def test_a_new_member_reads_the_guideline_before_the_first_task(project, browse, write_task):
    task = write_task()
    carol = project.admit(name="carol", role=Membership.Role.LABELER)
    page = browse(carol)
    assert page.get("/p/cooking/label/")["location"] == "/p/cooking/guideline/"
    assert "I have read it" in page.get("/p/cooking/guideline/").content.decode()
    answer = page.post("/p/cooking/guideline/", {"version": "1"})
    assert answer["location"] == "/p/cooking/label/"
    where = page.get("/p/cooking/label/")["location"]
    assert where == f"/p/cooking/label/{task.assignments.get().pk}/"
    assert "I have read it" not in page.get("/p/cooking/guideline/").content.decode()


def test_a_new_version_comes_before_the_next_task_and_loses_no_answer(
    project, alice, browse, write_task
):
    write_task()
    work = next_assignment(alice, project)
    project.publish_guideline(text="Be *shorter*.", author=None)
    form = {"text": "Boil it.", "idempotency_key": "0d8b2f4e-2f2c-4c3e-9f5a-111111111111"}
    page = browse(alice)
    answer = page.post(f"/p/cooking/label/{work.pk}/", form, follow=True)
    assert answer.redirect_chain[-1][0] == "/p/cooking/guideline/"
    assert work.label.text == "Boil it."
    assert work.label.guideline_version == 1  # what it followed
    # The page of the first version was still open: that one is not the one to acknowledge.
    page.post("/p/cooking/guideline/", {"version": "1"})
    assert page.get("/p/cooking/label/")["location"] == "/p/cooking/guideline/"
    page.post("/p/cooking/guideline/", {"version": "2"})
    assert page.get("/p/cooking/label/").status_code == 200


def test_older_versions_can_be_read(project, alice, browse):
    project.publish_guideline(text="Be *shorter*.", author=None)
    newest = browse(alice).get("/p/cooking/guideline/").content.decode()
    oldest = browse(alice).get("/p/cooking/guideline/?version=1").content.decode()
    assert "<em>shorter</em>" in newest
    assert "<strong>helpful</strong>" in oldest and "I have read it" not in oldest


def test_an_operator_publishes_a_version(project, olga, browse):
    page = browse(olga)
    assert "Be **helpful**" in page.get("/p/cooking/guideline/new/").content.decode()
    assert page.post("/p/cooking/guideline/new/", {"text": " "}).status_code == 422
    page.post("/p/cooking/guideline/new/", {"text": "Be kind."})
    assert (project.guideline.version, project.guideline.author) == (2, olga)
