"""Behaviour suites asked of policies, in a run of their own: greedily, so that the same weights
pass the same checks. See rlhf.models.probes for what a check is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from django.core.paginator import Paginator

from annotate.judges.opinions import CannotJudge, judge_of, known_score, opinion_of
from annotate.models import Judge, Policy, Project, User
from annotate.prompts.models import Messages
from feedback_site.answer_checks.judge import Judged
from rlhf.data.checks import Finding, NotReady, check_speaker
from rlhf.learning.contract.config import recipe as recipe_of
from rlhf.models.leases import Lease
from rlhf.models.probes import Probe, Verdicts, parse, turns_of
from rlhf.models.runs import Run
from rlhf.models.suites import Suite, SuiteResult, suite_hash

LONGEST_ANSWER = 96  # tokens
POLICIES_SHOWN = 5  # on a page


def launch_scorecard(
    project: Project,
    *,
    by: User | None,
    policies: list[Policy],
    samples: int = 1,
    only: Collection[str] = (),
) -> Run:
    """Launches the active suites, or `only` those of these names, for each of the policies: one
    greedy answer to each prompt, or so many at the policy's own temperature. Raises NotReady."""
    active = Suite.active_in(project)
    suites = {name: lines for name, lines in active.items() if not only or name in only}
    findings = [finding for policy in policies for finding in check_speaker(policy)]
    if not policies:
        findings.append(Finding("no_policies", "Choose at least one policy.", is_error=True))
    if not suites:
        findings.append(Finding("no_suites", "All suites are off.", is_error=True))
    findings += _judges_missing(project, suites)
    if findings:
        raise NotReady(findings)
    train = {
        **recipe_of("sample", "small")["train"],
        "k": samples,
        "max_new_tokens": LONGEST_ANSWER,
    }
    config = {"policies": [each.pk for each in policies], "suites": suites, "train": train}
    return Run.launch(project, kind=Run.Kind.SCORECARD, config=config, by=by)


def _judges_missing(project: Project, suites: dict[str, str]) -> list[Finding]:
    """Of judges that probes name, those that there are not, or that compare with a reference."""
    findings = {}
    checks = [
        check
        for lines in suites.values()
        for probe in parse(lines, is_stored=True)
        for check in probe.judges
    ]
    for check in checks:
        try:
            if judge_of(project, check).form == Judge.Form.PAIR:
                raise CannotJudge(
                    f"The judge “{check.judge}” compares two answers, and suites have one. Choose "
                    "one that rates, or says yes or no."
                )
        except CannotJudge as error:
            findings[check.judge] = Finding("no_judge", str(error), is_error=True)
    return list(findings.values())


def samples_of(run: Run) -> int:
    """How many answers to each prompt the run asks for."""
    return int(run.config["train"]["k"])


def questions_of(run: Run) -> list[dict[str, Any]]:
    """Returns the data rows of the sampler, numbered through."""
    asked = [
        prompt
        for lines in run.config["suites"].values()
        for probe in parse(lines, is_stored=True)
        for prompt in probe.prompts
    ]
    return [_row(number, *turns_of(text)) for number, text in enumerate(asked)]


def _row(number: int, first: str, *then: str) -> dict[str, Any]:
    going_on = {"then": list(then)} if then else {}
    return {"id": str(number), "prompt": _conversation(first), **going_on}


def _said(answers: Iterable[dict[str, Any]]) -> dict[tuple[str, int, int], str]:
    """(policy, number of the question, sample) → text."""
    return {
        (row["policy"], int(row["id"]), row.get("index", 0)): row["text"].replace("\x00", "")
        for row in answers
    }


def _failure(probe: Probe, answers: list[str]) -> dict[str, Any]:
    check = f"{probe.check} {probe.argument}".strip()
    return {"prompts": probe.prompts, "answers": answers, "check": check}


def ask_judges(
    lease: Lease, answers: Iterable[dict[str, Any]], *, is_over: Callable[[], bool]
) -> bool:
    """Has judges say what they think of the answers, where a probe names one; what was said is kept
    with the judge, and no attempt asks again. Returns False where `is_over` came first. Raises
    CannotJudge or InferenceError."""
    run, said = lease.run, _said(answers)
    probes = [
        each for lines in run.config["suites"].values() for each in parse(lines, is_stored=True)
    ]
    asked = [(probe, prompt) for probe in probes for prompt in probe.prompts]
    for (_, number, _), text in said.items():
        probe, prompt = asked[number]
        for check in probe.judges if text.strip() else ():
            if is_over():
                return False
            opinion_of(judge_of(run.project, check), _conversation(prompt), text)
    return True


def _verdicts(run: Run) -> Verdicts:
    """What judges have said by now."""

    def judged(check: Judged, prompt: str, answer: str) -> float:
        return known_score(judge_of(run.project, check), check, _conversation(prompt), answer)

    return judged


def _conversation(prompt: str) -> Messages:
    return [{"role": "user", "content": prompt}]


def grade(lease: Lease, answers: Iterable[dict[str, Any]]) -> list[SuiteResult]:
    """Returns how each policy did in each suite of the run; nothing is stored yet. `answers`: rows
    of completions.jsonl."""
    run = lease.run
    samples = samples_of(run)
    said = _said(answers)
    judged = _verdicts(run)
    results = []
    for policy in run.project.policies.filter(pk__in=run.config["policies"]).order_by("pk"):
        number = 0
        for suite, lines in run.config["suites"].items():
            probes, failures, passed = parse(lines, is_stored=True), [], 0
            for probe in probes:
                places = [(policy.name, number + i) for i in range(len(probe.prompts))]
                number += len(places)
                # Without an answer: a server refused.
                texts = [[said.get((*each, i), "") for i in range(samples)] for each in places]
                trials = probe.trials(texts, judged)
                passed += sum(trials)
                if not all(trials):
                    failures.append(_failure(probe, [each[trials.index(False)] for each in texts]))
            results.append(
                SuiteResult(
                    run=run,
                    lease_token=lease.token,
                    policy=policy,
                    suite=suite,
                    suite_hash=suite_hash(probes),
                    passed=passed,
                    probes=len(probes) * samples,
                    samples=samples,
                    failures=failures,
                )
            )
    return results


@dataclass(frozen=True)
class Line:
    """One suite on the scorecard: a result, or None, for each policy shown."""

    suite: str
    is_on: bool
    hash: str
    results: list[SuiteResult | None]


def scorecard_of(project: Project, page: str | None = None) -> dict[str, Any]:
    """Puts all suites beside the policies that were asked any, the live one first."""
    newest = SuiteResult.objects.newest_in(project)
    measured = {policy for _, policy in newest}
    shown = [each for each in project.policies.order_by("-pk") if each.pk in measured]
    live = [each for each in shown if each.state == Policy.State.LIVE]
    ordered = [*live, *[each for each in shown if each not in live]]
    columns = Paginator(ordered, POLICIES_SHOWN).get_page(page)
    suites = {name: parse(lines, is_stored=True) for name, lines in Suite.all_of(project).items()}
    return {
        "page": columns,
        "lines": [
            Line(
                name,
                bool(probes),
                suite_hash(probes),
                [newest.get((name, each.pk)) for each in columns],
            )
            for name, probes in suites.items()
        ],
    }
