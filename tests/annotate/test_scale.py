"""What pages ask of the database stays the same however much is in it; what labelers wait for finds
its way by index."""

import re
import uuid

import pytest
from django.db import connection
from django.db.models import Value
from django.db.models.functions import Concat
from django.test.utils import CaptureQueriesContext

from annotate.models import Project, Prompt, User
from benchmarks.labelling import LIST_PAGES, build

pytestmark = pytest.mark.django_db
LARGE = ["prompt", "completion", "task_completions", "task", "assignment", "ranking", "placement"]
BY_INDEX = ("label/", "my-work/", "my-work/?kind=rank")


def label(client) -> None:
    where = client.get("/p/large/label/")["location"]
    page = client.get(where).content.decode()
    form = {"idempotency_key": str(uuid.uuid4())}
    form |= dict.fromkeys(re.findall(r'name="(place_\d+)"', page), "1")
    assert len(form) == 5
    assert client.post(where, form).status_code == 302


def look(browse, path: str) -> None:
    name = "labeler0" if path.startswith("my-") else "olga"
    last = Prompt.objects.order_by("-pk").values_list("pk", flat=True)[10]
    address = f"/p/large/{path.format(last=last)}"
    assert browse(User.objects.get(username=name)).get(address).status_code == 200


def queries_of(browse, path: str) -> list[str]:
    """The statements of one page, or of labelling one task."""
    client = browse(User.objects.get(username="labeler0"))
    with CaptureQueriesContext(connection) as captured:
        label(client) if path == "label/" else look(browse, path)
    return [query["sql"] for query in captured]


PATHS = ["label/", *LIST_PAGES.values()]


def tables_read_whole(statement: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {statement}")
        plan = "\n".join(line for (line,) in cursor)
    return [table for table in LARGE if f"Seq Scan on annotate_{table} " in plan]


def test_pages_cost_the_same_queries_however_much_there_is_and_labelers_wait_for_no_scan(browse):
    build(prompts=60, labels=30, labelers=4)
    few = {path: len(queries_of(browse, path)) for path in PATHS}
    Project.objects.filter(slug="large").update(slug="small")
    User.objects.update(username=Concat("username", Value("-")))
    build(prompts=4000, labels=2000, labelers=16)
    many = {path: queries_of(browse, path) for path in PATHS}
    more = {path: len(statements) - few[path] for path, statements in many.items()}
    # Now and then the queue looks for a gold task too, or twice for a place. And Home asks of each
    # kind of work that waits when it is due: reviews are drawn by lot.
    lots = {"label/": 4, "": 1}
    assert all(extra <= lots.get(path, 0) for path, extra in more.items()), more
    # The lease, the page, and the submit with the lease of the next task: 46, with a review opened,
    # and two more near the end of a batch.
    assert len(many["label/"]) <= 53, "\n".join(many["label/"])
    whole = [
        (path, table, statement)
        for path in BY_INDEX
        for statement in many[path]
        if statement.startswith("SELECT")
        for table in tables_read_whole(statement)
    ]
    assert not whole, "\n".join(map(str, whole))


@pytest.mark.parametrize(
    "index, search",
    [
        ("prompts_by_word", lambda prompts: prompts.matching("river -doctor")),
        ("prompts_by_tag", lambda prompts: prompts.tagged("t3")),
    ],
)
def test_a_search_has_an_index_of_its_own(index, search, project):
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = off")
    assert index in search(Prompt.objects.all()).order_by().explain()
