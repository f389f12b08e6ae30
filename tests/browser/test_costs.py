"""An operator sees what answers cost, how they are received, and when to stop a comparison."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Site

WORLD = """
import random
from datetime import timedelta
from decimal import Decimal
from django.utils import timezone
from annotate.models import *
from rlhf.models import *
draw = random.Random(1)
project = Project.objects.create(
    name="Costs", slug="priced", currency="EUR", machine_price=2, wage=15
)
olga = project.admit(name="olga", role="operator")
connection = Connection.objects.create(
    project=project, name="Cooks", base_url="https://cooks.invalid/v1", price_in=3, price_out=15
)
teacher = project.policies.create(
    name="teacher", origin="prompted", state="live", connection=connection, model_name="cook-1"
)
base = project.policies.create(name="base", origin="base", folder="models/b")
student = project.policies.create(
    name="student", origin="trained", state="challenger", parent=base, folder="models/c"
)
now = timezone.now()
round = Round.objects.create(
    project=project, number=1, recipe="tiny", base=base, launched_by=olga
)
run = Run.objects.create(
    project=project, round=round, kind="sft", state="succeeded", lease_token=1,
    started_at=now - timedelta(hours=5), worked=timedelta(hours=4),
)
model = Checkpoint.objects.create(
    run=run, lease_token=1, step=4, folder="models/c", manifest_sha256="a" * 64, is_final=True
)
TrainedPolicy.objects.create(policy=student, checkpoint=model)
for policy, ms, price in ((teacher, 2500, "0.018"), (student, 700, "0.0004")):
    Call.objects.bulk_create(
        Call(
            project=project, policy=policy, use="chat", outcome="answered", tokens_in=900,
            tokens_out=draw.randrange(50, 400), first_ms=ms // 5 + draw.randrange(ms // 5),
            total_ms=ms + draw.randrange(ms), price=Decimal(price),
            at=now - timedelta(minutes=draw.randrange(6 * 1440)),
        )
        for _ in range(200)
    )
for n in range(60):
    guest = User.objects.create(username=f"kitchen guest {n}")
    for policy, share in ((teacher, 0.5), (student, 0.95)):
        chat = Conversation.objects.create(project=project, guest=guest)
        asked = Message.objects.create(conversation=chat, role="user", text="How long for eggs?")
        answer = Message.objects.create(
            conversation=chat, role="assistant", answers=asked, policy=policy, text="Eight minutes."
        )
        Feedback.objects.create(
            message=answer, user=guest, thumb_up=draw.random() < share, harvested_at=now
        )
Promotion.objects.create(
    project=project, policy=student, act="challenge", reason="Cheaper.", decided_by=olga
)
project.promotions.update(created_at=now - timedelta(days=5))
project.policies.update(created_at=now - timedelta(days=9))
"""


@pytest.fixture(scope="module")
def kitchen(site: Site) -> str:
    site.shell(WORLD)
    return f"{site.url}/p/priced"


def test_an_operator_reads_what_it_costs_and_when_to_stop(kitchen, sign_in):
    page = sign_in("olga").page
    page.goto(f"{kitchen}/policies/")
    page.get_by_role("link", name="Production").click()
    expect(page.get_by_text("Stop: the challenger is better")).to_be_visible()
    expect(page.locator("figure.chart canvas")).to_have_count(6)
    expect(page.locator("figure.chart figcaption").first).to_contain_text("student")
    page.get_by_label("Period").select_option("1")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("By hour, as a table")).to_be_visible()
    page.get_by_role("link", name="Costs").click()
    table = page.get_by_role("region", name="Policies")
    expect(table.locator("tr", has=page.get_by_role("rowheader", name="teacher"))).to_contain_text(
        "18.00"
    )
    expect(table.locator("tr", has=page.get_by_role("rowheader", name="student"))).to_contain_text(
        "0.40"
    )
    page.get_by_label("Prompted teacher").select_option("teacher")
    page.get_by_label("Trained student").select_option("student")
    page.get_by_role("button", name="Compare").click()
    # Four hours at 2, over 18 less 0.4 for 1,000 answers.
    expect(page.get_by_text("It pays off after 455 answers.")).to_be_visible()
    expect(page.get_by_text("People have not compared the two")).to_be_visible()
    with page.expect_download() as waiting:
        page.get_by_role("link", name="CSV").click()
    assert "teacher" in waiting.value.path().read_text()
