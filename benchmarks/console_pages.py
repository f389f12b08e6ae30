"""How long the pages of a large project take that an operator opens all day.

Builds a project in a PostgreSQL of its own: prompts and rankings as `benchmarks.labelling` does,
policies that were compared with one another in rounds, members, and answers that guests and
products got over 90 days, every fourth with a thumb. Asks each page through Django's test client.
JSON comes out: the median time of each and the slowest, and the bytes.

    .venv/bin/python -m benchmarks.console_pages [--prompts 200000] [--policies 400]
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from benchmarks.empty_site import empty_site
from benchmarks.labelling import build

SERVING = 40  # policies whose answers people got
DAYS = 90
PAGES = {
    "palette": "find/?q=river+marker777",
    "palette_policy": "find/?q=r300",
    "palette_person": "find/?q=labeler4",
    "home": "",
    "rounds": "rounds/",
    "policies": "policies/",
    "evaluation": "evaluation/",
    "production": "production/?days=90",
    "production_week": "production/?days=7",
    "inbox": "feedback/",
    "labelers": "labelers/",
    "costs": "costs/",
    "queue": "rounds/queue/",
}

# Each answer in a conversation of its own, so that one question and one answer have its number.
CONVERSATIONS = """
INSERT INTO annotate_conversation
    (project_id, guest_id, title, via_api, end_user, improves_model, metadata, external_id, folded,
     created_at)
SELECT %(project)s, %(guest)s, 'Question', n %% 2 = 0, CASE WHEN n %% 2 = 0 THEN 'u' || n %% 5000
    ELSE '' END, true, '{}', '', 'question', now() - n * %(apart)s::interval
FROM generate_series(1, %(answers)s) n"""
QUESTIONS = """
INSERT INTO annotate_message
    (conversation_id, public_id, role, is_blind, template_hash, left_out, text, state, failure,
     asked, context, passages, sampling, finish_reason, created_at,
     shown_at)
SELECT id, gen_random_uuid(), 'user', false, '', 0, 'How do I bake bread?', 'done', '', '[]', '[]',
    '[]', '{}', '', created_at, created_at
FROM annotate_conversation WHERE project_id = %(project)s"""
ANSWERS = """
INSERT INTO annotate_message
    (conversation_id, public_id, role, answers_id, policy_id, is_blind, template_hash, left_out,
     text, state, failure, asked, context, passages, sampling, finish_reason, prompt_tokens,
     completion_tokens, first_token_ms, total_ms, created_at, shown_at)
SELECT conversation_id, gen_random_uuid(), 'assistant', id,
    (%(policies)s::bigint[])[1 + id %% cardinality(%(policies)s::bigint[])], false, '', 0,
    'Flour, water, salt and time.', 'done', '', '[]', '[]', '[]', '{}', 'stop', 20, 8,
    (40 + id %% 90)::int, (400 + id %% 900)::int, created_at, created_at
FROM annotate_message WHERE role = 'user'"""
THUMBS = """
INSERT INTO annotate_feedback
    (message_id, user_id, thumb_up, reasons, note, wanted_answer, dismissed_why, created_at,
     updated_at)
SELECT id, %(guest)s, id %% 3 > 0, '{}', '', '', '', created_at, created_at
FROM annotate_message WHERE role = 'assistant' AND id %% 4 = 0"""
CALLS = """
INSERT INTO annotate_call
    (project_id, policy_id, use, outcome, at, tokens_in, tokens_out, first_ms, total_ms, price)
SELECT %(project)s, policy_id, CASE WHEN id %% 2 = 0 THEN 'gateway' ELSE 'chat' END, 'answered',
    created_at, 20, 8, first_token_ms, total_ms, 0.0001
FROM annotate_message WHERE role = 'assistant'"""


def fill(arguments: argparse.Namespace) -> Any:
    """The operator of the project, which has all this now."""
    from django.db import connection, transaction

    from annotate.models import Membership, Project

    build(prompts=arguments.prompts, labels=arguments.labels, labelers=arguments.members)
    project = Project.objects.get(slug="large")
    project.admit(name="gus", role=Membership.Role.GUEST)
    olga = project.memberships.get(user__username="olga").user
    policies = compared(project, olga, arguments.policies, arguments.rounds)
    given = {
        "project": project.pk,
        "guest": project.memberships.get(user__username="gus").user_id,
        "policies": [each.pk for each in policies[:SERVING]],
        "answers": arguments.answers,
        "apart": f"{DAYS * 86_400 / arguments.answers} seconds",
    }
    with transaction.atomic(), connection.cursor() as cursor:
        for statement in (CONVERSATIONS, QUESTIONS, ANSWERS, THUMBS, CALLS):
            cursor.execute(statement, given)
        cursor.execute("ANALYZE")
    return olga


def compared(project: Any, olga: Any, count: int, rounds: int) -> list[Any]:
    """Policies, each made in a round, and judged against the one it came from and the live one."""
    from annotate.models import Policy
    from rlhf.models import Evaluation, Round, Run

    base = project.policies.create(name="base", origin="base", folder="none")
    base.go_live()
    run = Run.objects.create(project=project, kind=Run.Kind.EVALUATE, config={})
    made = [base]
    for number in range(1, count):
        parent = made[-1] if number % 3 else base
        made.append(
            Policy.objects.create(
                project=project, name=f"r{number}-ppo", origin="trained", parent=parent
            )
        )
    for number in range(1, rounds + 1):
        round = Round.objects.create(
            project=project, number=number, base=base, recipe="tiny", launched_by=olga
        )
        for position, kind in enumerate(("sft", "reward", "ppo"), start=1):
            Run.objects.create(
                project=project,
                round=round,
                kind=kind,
                position=position,
                config={},
                state="succeeded",
            )
    Evaluation.objects.bulk_create(
        Evaluation(
            run=run, policy=each, opponent=rival, judge=judge,
            wins=26, losses=14, ties=0, win_rate=0.65, low=0.5, high=0.8,
        )
        for each in made[1:]
        for rival in {each.parent, base}
        for judge in ("reward_model", "gold")
    )  # fmt: skip
    return made


def measure(olga: Any, repeats: int) -> dict[str, Any]:
    from django.test import Client

    browser = Client()
    browser.force_login(olga)
    found: dict[str, Any] = {}
    for name, path in PAGES.items():
        address = f"/p/large/{path}"
        headers = {"HX-Request": "true"} if name.startswith("palette") else {}
        browser.get(address, headers=headers)  # the first loads its templates
        taken = []
        for _ in range(repeats):
            began = time.perf_counter()
            answer = browser.get(address, headers=headers)
            taken.append(1000 * (time.perf_counter() - began))
            assert answer.status_code == 200, (address, answer.status_code)
        taken.sort()
        found[name] = {
            "median_ms": round(taken[len(taken) // 2], 1),
            "slowest_ms": round(taken[-1], 1),
            "kb": round(len(answer.content) / 1000, 1),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--prompts", type=int, default=200_000)
    parser.add_argument("--labels", type=int, default=50_000)
    parser.add_argument("--members", type=int, default=500)
    parser.add_argument("--policies", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--answers", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=10)
    arguments = parser.parse_args()

    with empty_site():
        found = measure(fill(arguments), arguments.repeats)
    print(json.dumps(vars(arguments) | found, indent=1))


if __name__ == "__main__":
    main()
