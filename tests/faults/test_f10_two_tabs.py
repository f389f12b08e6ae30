"""F10: of two tabs that change one label, the slower gets both versions, and nothing is lost."""

import uuid

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from annotate.labelling.queue import next_assignment
from annotate.models import Demonstration
from tests.faults.conftest import sized

pytestmark = pytest.mark.django_db
INTERLEAVINGS = sized(short=15, long=1000)
TABS = st.sampled_from(["left", "right"])


def test_the_slower_tab_gets_both_versions(project, alice, browse, write_task, report):
    counts = {"saved": 0, "conflicts": 0}

    class Tabs(RuleBasedStateMachine):
        @initialize()
        def submit(self):
            write_task()
            self.work = next_assignment(alice, project)
            self.client = browse(alice)
            self.page = f"/p/cooking/label/{self.work.pk}/"
            self.said, self.sent = ["Version 0."], 0
            self.seen = {"left": 1, "right": 1}
            assert self.post("Version 0.", revision_no="").status_code == 302

        def post(self, text, **fields):
            form = {"text": text, "idempotency_key": str(uuid.uuid4()), **fields}
            return self.client.post(self.page, form)

        @rule(tab=TABS)
        def look(self, tab):
            form = self.client.get(self.page).context["form"]
            self.seen[tab] = form["revision_no"].value()
            assert self.seen[tab] == len(self.said)
            assert form["text"].value() == self.said[-1]

        @rule(tab=TABS)
        def save(self, tab):
            self.sent += 1
            text = f"Version {self.sent} of the {tab} tab."
            answer = self.post(text, revision_no=self.seen[tab])
            if self.seen[tab] == len(self.said):
                assert answer.status_code == 302
                counts["saved"] += 1
                self.said.append(text)
            else:
                assert answer.status_code == 409
                counts["conflicts"] += 1
                shown = answer.content.decode()
                assert self.said[-1] in shown and text in shown

        @invariant()
        def nothing_is_lost(self):
            if hasattr(self, "said"):
                revisions = Demonstration.objects.filter(assignment=self.work)
                said = list(revisions.order_by("revision_no").values_list("text", flat=True))
                assert said == self.said

    run_state_machine_as_test(
        Tabs,
        settings=settings(
            max_examples=INTERLEAVINGS,
            stateful_step_count=8,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    report(interleavings=INTERLEAVINGS, **counts)
    assert counts["conflicts"] and counts["saved"]
