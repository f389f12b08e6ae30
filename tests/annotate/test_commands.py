"""The command line: what it does, and what it says when it cannot."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from annotate.models import Demonstration, Membership, Policy, Project, Prompt, Task, User
from annotate.people.sign_in import user_of_link

pytestmark = pytest.mark.django_db


@pytest.fixture
def alpha() -> Project:
    project = Project.objects.create(name="Alpha", slug="alpha")
    olga = User.objects.create_user("olga")
    project.memberships.create(user=olga, role=Membership.Role.OPERATOR)
    Project.objects.create(name="Empty", slug="empty")
    return project


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "demonstrations.jsonl"
    path.write_text('{"prompt": "Hello?", "completion": "Hi!"}\n')
    return path


def run(*arguments: object) -> str:
    out = StringIO()
    call_command(*map(str, arguments), stdout=out)
    return out.getvalue()


def test_it_imports_a_file_in_the_name_of_the_first_operator(alpha, file):
    said = run("import_labels", file, "--project", "alpha")
    assert "1 new demonstration (0 already there)" in said
    label = Demonstration.objects.get()
    assert (label.labeler.username, label.source) == ("olga", "demonstrations.jsonl")


def test_a_dry_run_says_what_would_come(alpha, file):
    assert "would bring 1 new prompt (" in run(
        "import_labels", file, "--project", "alpha", "--dry-run"
    )
    assert not Prompt.objects.exists()


def test_csv_is_known_by_its_name(alpha, tmp_path):
    path = tmp_path / "prompts.CSV"
    path.write_text("prompt\nHello?\n")
    run("import_labels", path, "--project", "alpha")
    assert Prompt.objects.get().text == "Hello?"


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["FILE", "--project", "beta"], "The projects are: alpha, empty"),
        (["FILE.gone", "--project", "alpha"], "No such file"),
        (["FOLDER", "--project", "alpha"], "There is no JSON Lines, JSON, CSV or Parquet file"),
        (["FILE", "--project", "empty"], "no operator. Give somebody that role"),
        (["FILE", "--project", "alpha", "--by", "mallory"], "There is no mallory in Alpha"),
        (["FILE", "--project", "alpha", "--kind", "rankings"], "Line 1: This line holds"),
        (["FILE", "--project", "alpha", "--kind", "songs"], "invalid choice"),
        (["FILE"], "--project"),
    ],
)
def test_import_says_what_is_wrong(arguments, sentence, alpha, file):
    paths = {"FILE": file, "FILE.gone": f"{file}.gone", "FOLDER": file.parent / "none"}
    paths["FOLDER"].mkdir()
    with pytest.raises(CommandError, match=sentence):
        run("import_labels", *[paths.get(each, each) for each in arguments])
    assert not Prompt.objects.exists()


def test_columns_of_other_names_are_named(alpha, tmp_path):
    path = tmp_path / "foreign.csv"
    path.write_text("frage,antwort\nWarum?,Darum.\n")
    columns = ("--column", "frage=prompt", "--column", "antwort=completion")
    run("import_labels", path, "--project", "alpha", *columns)
    assert Demonstration.objects.get().text == "Darum."
    for wrong in ("frage=question", "prompt", "a=completion"):
        with pytest.raises(CommandError, match="no field|Two columns"):
            run("import_labels", path, "--project", "alpha", *columns, "--column", wrong)


def test_it_exports_what_was_imported(alpha, file, tmp_path):
    run("import_labels", file, "--project", "alpha")
    out = tmp_path / "out.jsonl"
    assert "1 lines of demonstrations" in run(
        "export_labels", "--project", "alpha", "--kind", "demonstrations", out
    )
    assert '"Hi!"' in out.read_text()


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--project", "beta", "--kind", "prompts", "x.jsonl"], "The projects are: alpha, empty"),
        (["--project", "alpha", "--kind", "songs", "x.jsonl"], "invalid choice"),
        (["--project", "alpha", "--kind", "prompts", "/nowhere/x.jsonl"], "No such file"),
    ],
)
def test_export_says_what_is_wrong(arguments, sentence, alpha):
    with pytest.raises(CommandError, match=sentence):
        run("export_labels", *arguments)


def test_a_login_link_a_line(alpha):
    User.objects.create_user("alice")
    links = run("login_link", "alice", "olga").split()
    people = [user_of_link(*link.rstrip("/").split("/")[-2:]) for link in links]
    assert [person.username for person in people] == ["alice", "olga"]


def test_there_is_no_login_link_for_strangers_and_the_inactive(alpha):
    User.objects.create_user("bob", is_active=False)
    with pytest.raises(CommandError, match="bob, nobody"):
        run("login_link", "olga", "bob", "nobody")


def test_seed_demo_makes_a_project_once(settings):
    settings.BASE_MODEL = "tiny"
    run("seed_demo")
    once = [model.objects.count() for model in (User, Project, Prompt, Policy, Task, Membership)]
    demo = Project.objects.get(slug="demo")
    demo.tasks.all().delete()
    demo.memberships.filter(user__username="bob").update(role=Membership.Role.REVIEWER)
    once[4] = 0  # whoever works there need not find everything as it was
    said = run("seed_demo", "--links")
    assert once == [
        model.objects.count() for model in (User, Project, Prompt, Policy, Task, Membership)
    ]
    assert said.count("/sign-in/") == 5
    assert demo.memberships.get(user__username="bob").role == Membership.Role.REVIEWER


def test_seed_demo_gives_people_something_to_do(settings):
    settings.BASE_MODEL = "tiny"
    run("seed_demo")
    demo = Project.objects.get(slug="demo")
    assert demo.prompts.count() >= 60
    assert not Demonstration.objects.exists()
    assert demo.tasks.count() == demo.prompts.count()
    live = demo.policies.live().get()
    assert (live.folder, live.origin) == ("models/base-tiny", Policy.Origin.BASE)
    assert "harmless" in demo.guideline.text
    assert not any(person.has_usable_password() for person in User.objects.all())


def test_seed_demo_leaves_the_live_policy_alone(settings):
    run("seed_demo")
    demo = Project.objects.get(slug="demo")
    chosen = demo.policies.create(name="chosen", origin=Policy.Origin.TRAINED, folder="models/x")
    chosen.go_live()
    settings.BASE_MODEL = "other"
    run("seed_demo")
    assert demo.policies.live().get() == chosen


def test_a_new_project_has_an_operator_and_a_live_base_model(settings):
    settings.BASE_MODEL = "tiny"
    link = run("create_project", "My Kitchen", "--operator", "olga").strip()
    project = Project.objects.get(slug="my-kitchen")
    assert project.memberships.get().role == Membership.Role.OPERATOR
    assert project.policies.live().get().name == "base-tiny"
    assert user_of_link(*link.split("/")[-3:-1]).username == "olga"


@pytest.mark.parametrize(
    "arguments, sentence",
    [(["Alpha"], "“alpha” already"), (["!!!"], "--slug"), (["Alpha", "--slug", "A b"], "--slug")],
)
def test_a_project_needs_an_address_of_its_own(alpha, arguments, sentence):
    with pytest.raises(CommandError, match=sentence):
        run("create_project", *arguments, "--operator", "olga")
    assert Project.objects.count() == 2


def test_a_member_is_added_and_later_has_another_role(alpha):
    link = run("add_member", "alice", "--project", "alpha", "--role", "labeler").strip()
    assert user_of_link(*link.split("/")[-3:-1]).username == "alice"
    run("add_member", "alice", "--project", "alpha", "--role", "reviewer")
    assert alpha.memberships.get(user__username="alice").role == Membership.Role.REVIEWER
