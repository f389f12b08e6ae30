"""F9: one submit is one answer, however often and however concurrently it is sent."""

import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connection

from annotate.labelling.queue import next_assignment
from annotate.models import Assignment, Demonstration
from tests.faults.conftest import sized

pytestmark = pytest.mark.django_db(transaction=True)
KEYS, RETRIES = sized(short=5, long=50), sized(short=8, long=20)


def test_concurrent_retries_of_one_submit_have_one_effect(
    project, alice, browse, write_task, report
):
    answers = Counter()
    with ThreadPoolExecutor(RETRIES) as pool:
        for number in range(KEYS):
            write_task()
            work = next_assignment(alice, project)
            page = f"/p/cooking/label/{work.pk}/"
            form = {"text": f"Answer {number}", "idempotency_key": str(uuid.uuid4())}
            clients = [browse(alice) for _ in range(RETRIES)]
            together = Barrier(RETRIES)

            def send(client, page=page, form=form, together=together):
                together.wait(timeout=60)
                try:
                    return client.post(page, form).status_code
                finally:
                    connection.close()

            answers.update(pool.map(send, clients))
            assert Demonstration.objects.filter(assignment=work).count() == 1
            reused = clients[0].post(page, form | {"text": "Something else"})
            assert reused.status_code == 409
            page_of_both = reused.content.decode()
            assert f"Answer {number}" in page_of_both and "Something else" in page_of_both
    report(keys=KEYS, retries=RETRIES, answers=dict(answers))
    assert answers == {302: KEYS * RETRIES}
    assert Demonstration.objects.count() == KEYS
    assert set(Assignment.objects.values_list("state", flat=True)) == {"submitted"}
