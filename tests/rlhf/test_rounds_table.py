"""The table of rounds, and several of them side by side."""

import re

import pytest
from django.urls import reverse

from annotate.models import Policy, Ranking
from rlhf.models import Round, Run, Snapshot
from rlhf.rounds.launch import launch_round
from rlhf.rounds.report import report_on
from rlhf.rounds.settings import Launch
from rlhf.rounds.side_by_side import data_differences
from rlhf.rounds.table import table_of
from tests.rlhf.test_pages import compared, write_metrics  # noqa: F401 - fixtures

pytestmark = pytest.mark.django_db


@pytest.fixture
def three(project, base, labels, olga) -> list[Round]:
    """The second with another rate, the third with no more than SFT and another recipe."""
    fast = {"ppo": {"train": {"kl_coef": 0.5}}}
    launches = [
        Launch(base=base, recipe="tiny"),
        Launch(base=base, recipe="tiny", overrides=fast, note="Faster."),
        Launch(base=base, recipe="small", stages=["sft"]),
    ]
    rounds = [launch_round(project, each, by=olga) for each in launches]
    rounds[1].describe(name="Fast one", note="Faster.", tags=["brief", "ann"])
    return rounds


def numbers(project, **asked) -> list[int]:
    return [row.number for row in table_of(project, **asked).rows]


def test_a_row_names_only_what_was_chosen_otherwise_than_in_its_recipe(project, three):
    changes = {row.number: row.changes for row in table_of(project).rows}
    assert changes == {1: [], 2: [("PPO kl coef", "0.5")], 3: []}


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, [3, 2, 1]),
        ({"q": "FAST"}, [2]),
        ({"q": "olga"}, [3, 2, 1]),
        ({"tag": "ann"}, [2]),
        ({"tag": "ann", "q": "nothing like it"}, []),
        ({"state": "failed"}, [1]),
        ({"state": "queued"}, [3, 2]),
        ({"sort": "round"}, [1, 2, 3]),
        ({"sort": "-took"}, [1, 3, 2]),
        ({"sort": "took"}, [1, 3, 2]),
    ],
)
def test_rounds_are_found_and_sorted(project, three, asked, found):
    """What has no value comes last in either direction."""
    from datetime import timedelta

    from django.utils import timezone

    first = Run.objects.filter(round=three[0], position=0)
    first.update(state="failed", started_at=timezone.now(), worked=timedelta(seconds=50))
    assert numbers(project, **asked) == found


def test_the_page_finds_and_sorts_and_forgives_nonsense(project, three, browse, olga):
    client = browse(olga)
    shown = re.compile(r'name="round" value="(\d+)"')
    for query, found in [
        ("", ["3", "2", "1"]),
        ("?tag=ann", ["2"]),
        ("?sort=round&q=round", ["1", "2", "3"]),
        ("?sort=nonsense&against=x&state=no&tag=none", ["3", "2", "1"]),
    ]:
        page = client.get(f"/p/cooking/rounds/{query}").content.decode()
        assert shown.findall(page) == found, query
    assert "No round matches." in client.get("/p/cooking/rounds/?q=zzz").content.decode()


def test_all_are_measured_against_the_one_that_is_chosen(project, round, trained, base, compared):  # noqa: F811
    round.runs.filter(position=0).update(summary={"policy": trained.name})
    [row] = table_of(project, against=base).rows
    assert row.verdict.opponent == base and row.people == 1.0
    assert row.verdict.people.overall.low < 1.0
    [row] = table_of(project, against=trained).rows
    assert row.verdict is None, "the policy itself"
    other = Policy.objects.create(project=project, name="other")
    [row] = table_of(project, against=other).rows
    assert row.verdict is None and row.people is None, "nobody has compared them"


def test_labels_gained_and_lost_are_counted(three):
    one, two, third = three
    rankings = list(Ranking.objects.order_by("pk")[:5])
    for round, learnt in ((one, rankings[:3]), (two, rankings[1:])):
        run = round.runs.get(kind=Run.Kind.REWARD)
        made = Snapshot.objects.create(project=round.project, run=run, sha256="a" * 64, counts={})
        made.rankings.set(learnt)
    found = data_differences([report_on(each) for each in three])
    assert [(each.name, each.values) for each in found] == [
        ("Reward model: rankings", ["3", "4 (+2 −1)", "–"])
    ], "and nothing of what none of them learnt from"
    assert not data_differences([report_on(one)])


def test_the_overview_says_what_changed_since_the_round_before(three, browse, olga):
    client = browse(olga)
    second = client.get("/p/cooking/rounds/2/").content.decode()
    changes = second[second.index("Changes since") :]
    assert "PPO kl coef" in changes and '<a href="/p/cooking/rounds/1/">Round 1</a>' in changes
    assert "Changes since" not in client.get("/p/cooking/rounds/1/").content.decode()


@pytest.mark.parametrize("tab", ["show", "charts", "samples", "logs", "data", "files"])
def test_every_tab_links_to_every_other(round, browse, olga, tab):
    """They are pages of their own: no script is needed."""
    address = reverse(f"rounds_{tab}", args=["cooking", 1])
    page = browse(olga).get(address).content.decode()
    tabs = page[page.index('class="tabs"') : page.index("</nav>", page.index('class="tabs"'))]
    assert len(re.findall(r'href="/p/cooking/rounds/1/\w*/?"', tabs)) == 6
    assert re.findall(r'href="([^"]+)" aria-current="page"', tabs) == [address]


def test_the_log_of_each_stage_is_there_after_success(round, data_dir, browse, olga):
    sft, reward = round.runs.order_by("position")[:2]
    Run.objects.filter(pk=sft.pk).update(state="succeeded", lease_token=2, log_tail="from the row")
    Run.objects.filter(pk=reward.pk).update(state="running", lease_token=1)
    for folder, text in ((f"{sft.folder}/t1", "<b>first try</b>"), (f"{reward.folder}/t1", "loss")):
        (data_dir / folder).mkdir(parents=True)
        (data_dir / folder / "output.txt").write_text(text)
    page = browse(olga).get("/p/cooking/rounds/1/logs/").content.decode()
    assert "from the row" in page, "its files are gone"
    assert "&lt;b&gt;first try&lt;/b&gt;" in page and "attempt 1 of 2" in page and "loss" in page


def test_a_trainer_that_is_done_leaves_its_log(round, fake_trainer):
    from tests.rlhf.conftest import work_until_idle

    work_until_idle()
    run = round.runs.get(position=0)
    assert run.state == "succeeded" and run.log_tail


def test_rows_are_shown_as_the_trainer_reads_them(round, data_dir, browse, olga):
    run = round.runs.get(position=0)
    folder = data_dir / run.folder / "data"
    folder.mkdir(parents=True)
    row = '{"id": "p%d", "prompt": [{"role": "user", "content": "<i>Hi</i>"}], "completion": "Yo"}'
    (folder / "train.jsonl").write_text("\n".join(row % n for n in range(45)) + "\n")
    (folder / "test.jsonl").write_text("no json\n")
    client, url = browse(olga), "/p/cooking/rounds/1/data/"
    page = client.get(url).content.decode()
    assert "no json" in page and "train.jsonl" in page
    train = f"{url}?run={run.pk}&name=train.jsonl"
    page = client.get(train).content.decode()
    assert "user: &lt;i&gt;Hi&lt;/i&gt;" in page and ">p19<" in page and ">p20<" not in page
    last = client.get(f"{train}&from=40").content.decode()
    assert ">p40<" in last and ">p44<" in last and "from=20" in last and "Next" not in last
    assert client.get(f"{train}&from=9999").status_code == 200
    assert client.get(f"{url}?run=x&name=../secret&from=-1").status_code == 200


def test_files_are_listed_and_sent_and_none_outside_of_the_run(
    round, project, data_dir, browse, olga
):
    run = round.runs.get(position=0)
    (data_dir / run.folder / "t1").mkdir(parents=True)
    (data_dir / run.folder / "t1/metrics.jsonl").write_text('{"step": 1}')
    (data_dir / "secret.txt").write_text("secret")
    (data_dir / run.folder / "link").symlink_to(data_dir / "secret.txt")
    stranger = Run.objects.create(project=project, kind="sample")
    (data_dir / stranger.folder).mkdir(parents=True)
    (data_dir / stranger.folder / "its.txt").write_text("its")
    client, url = browse(olga), "/p/cooking/rounds/1/files/"
    page = client.get(url).content.decode()
    assert "t1/metrics.jsonl" in page and ">link<" not in page

    def status(name: str, run: object = run.pk) -> int:
        return client.get(url, {"run": run, "name": name}).status_code

    answer = client.get(url, {"run": run.pk, "name": "t1/metrics.jsonl"})
    assert b"".join(answer.streaming_content) == b'{"step": 1}'
    assert answer["Content-Disposition"].startswith("attachment")
    for name in ("../../secret.txt", "link", str(data_dir / "secret.txt"), "t1", "", "a\x00b"):
        assert status(name) == 404, name
    assert status("its.txt", stranger.pk) == status("t1/metrics.jsonl", "x") == 404


@pytest.mark.parametrize(
    ("sort", "first"), [("", "p0"), ("score", "p1"), ("-score", "p2"), ("-kl", "p0")]
)
def test_samples_are_sorted_by_the_figures_of_the_newest_answer(round, prompts, sort, first):
    from rlhf.models import Sample
    from rlhf.rounds.report import samples_of

    run = round.runs.get(kind=Run.Kind.PPO)
    figures = [(0.5, 9.0), (0.1, 2.0), (0.9, None)]
    for prompt, (score, kl) in zip(prompts, figures, strict=False):
        for step, worth in ((1, -score), (2, score)):
            Sample.objects.create(
                run=run, lease_token=0, step=step, prompt=prompt, text="a", score=worth, kl=kl
            )
    names = {prompt.text: f"p{n}" for n, prompt in enumerate(prompts)}
    table = samples_of(list(round.runs.all()), sort=sort)
    assert names[table.rows[0][0]] == first


def say(run, prompt, step, text):
    from rlhf.models import Sample

    Sample.objects.create(run=run, lease_token=0, step=step, prompt=prompt, text=text, score=step)


def test_what_changed_from_step_to_step_is_marked(round, prompts, browse, olga):
    run = round.runs.get(kind=Run.Kind.PPO)
    for step, text in ((1, "Cook it slowly."), (2, "Boil it slowly.")):
        say(run, prompts[0], step, text)
    say(run, prompts[1], 2, "Only now.")
    page = browse(olga).get("/p/cooking/rounds/1/samples/?show=changes").text
    assert "<del>Cook</del><ins>Boil</ins> it slowly." in page
    assert "<ins>Only" not in page and page.count("<del>") == 1
    assert "<del>" not in browse(olga).get("/p/cooking/rounds/1/samples/").text


def test_last_samples_of_rounds_stand_side_by_side(three, prompts, browse, olga, monkeypatch):
    first, second, _ = three
    say(first.runs.get(kind=Run.Kind.PPO), prompts[0], 1, "An older one.")
    say(first.runs.get(kind=Run.Kind.PPO), prompts[0], 9, "Cook it slowly.")
    say(second.runs.get(kind=Run.Kind.PPO), prompts[1], 9, "Of another prompt.")
    client, url = browse(olga), "/p/cooking/rounds/compare/"
    alone = client.get(url, {"round": [first.number]}).text
    assert "Last samples" not in alone
    say(second.runs.get(kind=Run.Kind.PPO), prompts[0], 9, "Boil it slowly.")
    page = client.get(url, {"round": [first.number, second.number]})
    new, old = ("Boil", "Cook") if page.context["reports"][1].round == second else ("Cook", "Boil")
    assert f"<del>{old}</del><ins>{new}</ins> it slowly." in page.text
    assert "An older one." not in page.text
    both, one_sided = page.context["samples"].rows
    assert None not in both[1] and one_sided[1].count(None) == 1
    assert "prompts are" not in page.text
    monkeypatch.setattr("rlhf.rounds.side_by_side.MOST_SAMPLES", 1)
    page = client.get(url, {"round": [first.number, second.number]})
    assert "1 of 2 prompts are shown" in " ".join(page.text.split())


def test_tokens_of_a_base_that_is_not_here_say_so(round, data_dir, browse, olga):
    run = round.runs.get(position=0)
    folder = data_dir / run.folder / "data"
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text('{"prompt": [], "completion": "Yo"}\n' * 9)
    page = browse(olga).get("/p/cooking/rounds/1/data/?show=tokens").text
    assert "not on this machine" in page and "from=5" in page


def test_tokens_and_the_loss_mask_are_those_of_the_bases_tokenizer(
    round, base, data_dir, browse, olga
):
    from rlhf.learning.models import base as base_model

    base_model.prepare("tiny", data_dir / "models/tiny")
    base.folder = "models/tiny"
    base.save()
    folder = data_dir / round.runs.get(position=0).folder / "data"
    folder.mkdir(parents=True)
    asked = '"prompt": [{"role": "user", "content": "Is <b>tea</b> hot?"}]'
    rows = [f'{{{asked}, "completion": "yes"}}', f'{{{asked}, "completion": ""}}']
    (folder / "train.jsonl").write_text("\n".join(rows))
    page = browse(olga).get("/p/cooking/rounds/1/data/?show=tokens")
    (good,), bad = page.context["data"].tokens.rows
    assert "".join(text for text, learnt in good["tokens"] if learnt).startswith("yes")
    assert "completion is empty" in bad and "completion is empty" in page.text
    assert "<mark>" in page.text and "<b>tea" not in page.text
