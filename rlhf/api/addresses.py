"""The addresses of rounds, runs and decisions in the API."""

from __future__ import annotations

from django.urls import path

from rlhf.api import policies, rounds, suites

ROUND, RUN = "api/v1/rounds/<int:number>", "api/v1/runs/<int:run_id>"
POLICY = "api/v1/policies/<int:policy_id>"

addresses = [
    path("api/v1/rounds", rounds.rounds, name="api_rounds"),
    path(ROUND, rounds.round_, name="api_round"),
    path(f"{ROUND}/cancel", rounds.round_cancel, name="api_round_cancel"),
    path(f"{ROUND}/resume", rounds.round_resume, name="api_round_resume"),
    path(f"{ROUND}/prioritise", rounds.round_prioritise, name="api_round_prioritise"),
    path("api/v1/runs", rounds.runs, name="api_runs"),
    path(RUN, rounds.run, name="api_run"),
    path(f"{RUN}/metrics", rounds.metrics, name="api_metrics"),
    path(f"{RUN}/cancel", rounds.run_cancel, name="api_run_cancel"),
    path(f"{RUN}/resume", rounds.run_resume, name="api_run_resume"),
    path(f"{POLICY}/gate", policies.gate, name="api_gate"),
    path(f"{POLICY}/promote", policies.promotion, name="api_promote"),
    path(f"{POLICY}/challenge", policies.challenger, name="api_challenge"),
    path(f"{POLICY}/reject", policies.rejection, name="api_reject"),
    path("api/v1/roll-back", policies.back, name="api_roll_back"),
    path("api/v1/promotions", policies.promotions, name="api_promotions"),
    path("api/v1/evaluations", policies.evaluations, name="api_evaluations"),
    path("api/v1/suites", suites.suites, name="api_suites"),
    path("api/v1/suites/<str:name>", suites.suite, name="api_suite"),
    path("api/v1/suite-results", suites.results, name="api_suite_results"),
    path("api/v1/gate-limits", suites.limits, name="api_gate_limits"),
]
