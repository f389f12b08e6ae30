"""The scorecard: policies answer the behaviour suites, greedily unless several samples are asked
for, and each check passes or fails."""

from __future__ import annotations

from collections.abc import Callable

from annotate.chat.inference import InferenceError
from annotate.judges.opinions import CannotJudge
from rlhf.evaluation.scorecard import ask_judges, grade, questions_of, samples_of
from rlhf.models.leases import Lease
from rlhf.models.runs import Run
from rlhf.models.suites import SuiteResult
from rlhf.stages.answering import Answering, answers_in, sampler_config, speakers
from rlhf.stages.stage import Config, Summary, Unusable


class Scorecard(Answering):
    kind = Run.Kind.SCORECARD

    def about(self, run: Run) -> str:
        return f"{speakers(run)} · {len(run.config['suites'])} behaviour suites"

    def prepare(self, lease: Lease) -> Config:
        run = lease.run
        policies = run.project.policies.filter(pk__in=run.config["policies"]).order_by("pk")
        questions = questions_of(run)
        # Greedy, so that the same weights pass the same checks: the gate compares by counting.
        greedy = 0.0 if samples_of(run) == 1 else None
        return sampler_config(
            lease, list(policies), questions, own_lengths=False, temperature=greedy
        )

    def ask_others(self, lease: Lease, *, is_over: Callable[[], bool]) -> bool:
        """Also the judges that its probes name, of what all have answered."""
        if not super().ask_others(lease, is_over=is_over):
            return False
        try:
            return ask_judges(lease, answers_in(lease.path), is_over=is_over)
        except (CannotJudge, InferenceError) as reason:
            raise Unusable(f"A judge could not be asked: {reason}") from reason

    def examine(self, lease: Lease, outcome: Summary) -> Summary:
        return {**outcome, "results": grade(lease, answers_in(lease.path))}

    def conclude(self, lease: Lease, outcome: Summary) -> Summary:
        """Stores how each policy did in each suite."""
        results = SuiteResult.objects.bulk_create(outcome.pop("results"))
        passed = sum(each.passed for each in results)
        return {**outcome, "passed": passed, "probes": sum(each.probes for each in results)}


SCORECARD = Scorecard()
