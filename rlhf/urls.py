from django.urls import include, path

from annotate.api.endpoints import nothing_here
from annotate.audit.routes import audited
from rlhf.api.addresses import addresses
from rlhf.views import (
    costs,
    evaluation,
    one_round,
    policies,
    production,
    queue,
    registry,
    rounds,
    runs,
    suites,
)

urlpatterns = [
    path("", include(addresses)),
    path("p/<slug:slug>/rounds/", rounds.rounds, name="rounds"),
    path("p/<slug:slug>/rounds/new/", rounds.rounds_new, name="rounds_new"),
    path("p/<slug:slug>/rounds/compare/", rounds.rounds_compare, name="rounds_compare"),
    path(
        "p/<slug:slug>/rounds/<int:number>/tensorboard.zip",
        one_round.rounds_tensorboard,
        name="rounds_tensorboard",
    ),
    path("p/<slug:slug>/rounds/<int:number>/", one_round.rounds_show, name="rounds_show"),
    path("p/<slug:slug>/rounds/<int:number>/again/", one_round.rounds_again, name="rounds_again"),
    path("p/<slug:slug>/rounds/<int:number>/live/", one_round.rounds_live, name="rounds_live"),
    path(
        "p/<slug:slug>/rounds/<int:number>/samples/",
        one_round.rounds_samples,
        name="rounds_samples",
    ),
    path(
        "p/<slug:slug>/rounds/<int:number>/charts/", one_round.rounds_charts, name="rounds_charts"
    ),
    path("p/<slug:slug>/rounds/<int:number>/logs/", one_round.rounds_logs, name="rounds_logs"),
    path("p/<slug:slug>/rounds/<int:number>/data/", one_round.rounds_data, name="rounds_data"),
    path("p/<slug:slug>/rounds/<int:number>/files/", one_round.rounds_files, name="rounds_files"),
    path(
        "p/<slug:slug>/rounds/<int:number>/ask/",
        evaluation.rounds_ask_people,
        name="rounds_ask_people",
    ),
    path(
        "p/<slug:slug>/rounds/<int:number>/next-batch/",
        evaluation.rounds_next_batch,
        name="rounds_next_batch",
    ),
    path("p/<slug:slug>/rounds/queue/", queue.rounds_queue, name="rounds_queue"),
    path("p/<slug:slug>/runs/<int:run_id>/", runs.policies_run, name="policies_run"),
    path(
        "p/<slug:slug>/runs/<int:run_id>/metrics.json", runs.rounds_metrics, name="rounds_metrics"
    ),
    path("p/<slug:slug>/models/", registry.policies_models, name="policies_models"),
    path("p/<slug:slug>/models/<int:model_id>/", registry.policies_model, name="policies_model"),
    path(
        "p/<slug:slug>/models/<int:model_id>/model.tar",
        registry.policies_model_tar,
        name="policies_model_tar",
    ),
    path("p/<slug:slug>/evaluation/", evaluation.policies_evaluation, name="policies_evaluation"),
    path("p/<slug:slug>/evaluation/doubted/", evaluation.policies_doubted, name="policies_doubted"),
    path("p/<slug:slug>/policies/", policies.policies, name="policies"),
    path("p/<slug:slug>/costs/", costs.policies_costs, name="policies_costs"),
    path("p/<slug:slug>/costs/costs.csv", costs.policies_costs_csv, name="policies_costs_csv"),
    path("p/<slug:slug>/production/", production.policies_production, name="policies_production"),
    path(
        "p/<slug:slug>/production/production.csv",
        production.policies_production_csv,
        name="policies_production_csv",
    ),
    path("p/<slug:slug>/policies/download/", policies.policies_fetch, name="policies_fetch"),
    path("p/<slug:slug>/policies/sample/", policies.policies_sample, name="policies_sample"),
    path(
        "p/<slug:slug>/policies/roll-back/", policies.policies_roll_back, name="policies_roll_back"
    ),
    path(
        "p/<slug:slug>/policies/<int:policy_id>/",
        policies.policies_lineage,
        name="policies_lineage",
    ),
    path(
        "p/<slug:slug>/policies/<int:policy_id>/lineage.json",
        policies.policies_lineage_json,
        name="policies_lineage_json",
    ),
    path("p/<slug:slug>/suites/", suites.policies_suites, name="policies_suites"),
    path("p/<slug:slug>/suites/edit/", suites.policies_suite, name="policies_suite"),
    path(
        "p/<slug:slug>/suites/of-grid/<int:grid_id>/",
        suites.policies_suite_of_grid,
        name="policies_suite_of_grid",
    ),
    path("p/<slug:slug>/gate/", suites.policies_limits, name="policies_limits"),
    path("p/<slug:slug>/decisions/", policies.policies_decisions, name="policies_decisions"),
    path(
        "p/<slug:slug>/policies/<int:policy_id>/gate/", policies.policies_gate, name="policies_gate"
    ),
    path(
        "p/<slug:slug>/policies/<int:policy_id>/challenge/",
        policies.policies_challenge,
        name="policies_challenge",
    ),
    path(
        "p/<slug:slug>/policies/<int:policy_id>/reject/",
        policies.policies_reject,
        name="policies_reject",
    ),
    path(
        "p/<slug:slug>/policies/from/<str:username>/",
        policies.policies_reach,
        name="policies_reach",
    ),
    # The last of all addresses: what no operation of the API has taken.
    path("api/v1/<anything:rest>", nothing_here, name="api_unknown"),
]
audited(
    urlpatterns,
    things={
        "number": ("rlhf.Round", "number"),
        "run_id": ("rlhf.Run", "pk"),
        "run": ("rlhf.Run", "pk"),
        "machine": ("rlhf.Machine", "pk"),
        "model_id": ("rlhf.Checkpoint", "pk"),
    },
)
