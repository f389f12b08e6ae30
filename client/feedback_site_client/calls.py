"""What can be asked of the site: each function makes a call, which a client then sends."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import EllipsisType
from typing import Any, Generic, NotRequired, TypedDict, TypeVar
from urllib.parse import quote

Data = TypeVar("Data")
Json = dict[str, Any]


class ApiError(Exception):
    """A refusal. `fields`: where something is wrong, and what."""

    def __init__(
        self, status: int, code: str, detail: str, fields: Mapping[str, list[str]]
    ) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status, self.code, self.detail, self.fields = status, code, detail, fields


@dataclass(frozen=True)
class Call(Generic[Data]):
    """One request, not sent yet. `key`: by which the site knows it when it is sent again."""

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    files: Mapping[str, tuple[str, bytes]] | None = None
    etag: str = ""
    is_raw: bool = False
    key: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def headers(self) -> dict[str, str]:
        """The headers of its own."""
        key = {"Idempotency-Key": self.key} if self.method == "POST" else {}
        return key | ({"If-Match": self.etag} if self.etag else {})


class Message(TypedDict):
    role: str
    content: str


class Page(TypedDict, Generic[Data]):
    results: list[Data]
    next: str | None


class Prompt(TypedDict):
    id: int
    messages: list[Message]
    split: str
    source: str
    tags: list[str]
    reference: str
    is_archived: bool
    awaits_review: bool
    created_at: str


class Completion(TypedDict):
    id: int
    prompt: int
    policy: str
    text: str
    source: str
    finish_reason: str
    created_at: str


class Assignment(TypedDict):
    id: int
    kind: str
    state: str
    leased_until: str
    prompt: Json
    completions: list[Json]
    form: list[Json]
    revision: int | None


class Label(TypedDict):
    id: int
    kind: str
    assignment: int | None
    prompt: int
    labeler: str
    revision: int
    source: str
    created_at: str
    content: Json


class Upload(TypedDict):
    id: int
    name: str
    format: str
    size: int
    kind: str
    shape: str
    columns: dict[str, str]
    seen: dict[str, str]
    problems: list[Json]
    created_at: str


class Imported(TypedDict):
    lines: int
    new: dict[str, int]
    known: dict[str, int]
    left_out: int
    is_dry_run: bool
    summary: str


class Run(TypedDict):
    id: int
    round: int | None
    kind: str
    state: str
    reason: str
    step: int
    total_steps: int
    seed: int
    summary: Json
    created_at: str
    started_at: str | None
    ended_at: str | None


class Round(TypedDict):
    number: int
    state: str
    name: str
    note: str
    recipe: str
    base: str
    launched_by: str
    created_at: str
    runs: list[Run]


class Plan(TypedDict):
    planned: list[Json]
    findings: list[Json]


class Policy(TypedDict):
    id: int
    name: str
    description: str
    state: str
    origin: str
    created_at: str


class Promotion(TypedDict):
    id: int
    policy: str
    previous: str | None
    act: str
    is_rollback: bool
    reason: str
    override: str
    decided_by: str
    created_at: str


class Thumb(TypedDict):
    completion_id: str
    thumb: str | None
    reasons: list[str]
    note: str
    wanted_answer: str
    rating: int | None
    metrics: Json
    tags: list[str]
    counts: bool
    why: NotRequired[str]


class Preference(TypedDict):
    completion_id: str
    other_completion_id: str
    verdict: str | None
    counts: bool
    why: str


def messages_of(prompt: str | Sequence[Message]) -> list[Message]:
    """A text as the messages of a prompt."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)


def list_prompts(**filters: str) -> Call[Page[Prompt]]:
    """`words`, `split`, `source`, `tag`, `work`, `flag`, `archived`, …"""
    return Call("GET", "prompts", query=filters)


def create_prompt(prompt: str | Sequence[Message], **fields: Any) -> Call[Prompt]:
    """`reference`, `source`, `tags`."""
    return Call("POST", "prompts", body={"messages": messages_of(prompt), **fields})


def retrieve_prompt(number: int) -> Call[Prompt]:
    return Call("GET", f"prompts/{number}")


def change_prompt(number: int, *, etag: str = "*", **changes: Any) -> Call[Prompt]:
    """`add_tags`, `is_archived`. `etag`: of the prompt you have read; “*” whatever it is now."""
    return Call("PATCH", f"prompts/{number}", body=changes, etag=etag)


def list_completions(prompt: int | None = None) -> Call[Page[Completion]]:
    return Call("GET", "completions", query={} if prompt is None else {"prompt": prompt})


def create_completion(prompt: int, policy: str, text: str) -> Call[Completion]:
    return Call("POST", "completions", body={"prompt": prompt, "policy": policy, "text": text})


def open_tasks(
    kind: str, prompts: Sequence[int] = (), *, plan: Json | None = None, **filters: str
) -> Call[Json]:
    """Asks labelers for labels: `rank`, `write`, `edit`. `plan`: the `batch`, and perhaps its
    `priority`, `due` (2026-12-31), `language` and `skill`."""
    body: Json = {"kind": kind, "filter": filters, **(plan or {})}
    return Call("POST", "tasks", body=body | ({"prompts": list(prompts)} if prompts else {}))


def next_assignment(kind: str | None = None) -> Call[Assignment | None]:
    """None: nothing is left."""
    return Call("POST", "assignments/next", body={"kind": kind} if kind else {})


def retrieve_assignment(number: int) -> Call[Assignment]:
    return Call("GET", f"assignments/{number}")


def submit_label(assignment: int, **fields: Any) -> Call[Label]:
    """What the assignment's `form` names: `text`, `choice`, `placements`, …"""
    return Call("POST", f"assignments/{assignment}/label", body=fields)


def revise_label(assignment: int, *, etag: str, **fields: Any) -> Call[Label]:
    return Call("PUT", f"assignments/{assignment}/label", body=fields, etag=etag)


def skip_assignment(assignment: int, reason: str, note: str = "") -> Call[Json]:
    return Call("POST", f"assignments/{assignment}/skip", body={"reason": reason, "note": note})


def list_labels(kind: str) -> Call[Page[Label]]:
    """`demonstrations`, `rankings`, …"""
    return Call("GET", f"labels/{kind}")


def list_batches() -> Call[Json]:
    """The batches of which something is open, in the order in which they are due."""
    return Call("GET", "batches")


def list_reviews(**filters: str) -> Call[Page[Json]]:
    """`state` (waiting, settled), `reason`, `labeler`, `kind`, `age`."""
    return Call("GET", "reviews", query=filters)


def next_review(task: int | None = None, **filters: str) -> Call[Json | None]:
    """A review, leased now; that of one task, if named. None: nothing is left."""
    body: Json = {"filter": filters} if task is None else {"task": task}
    return Call("POST", "reviews/next", body=body)


def retrieve_review(number: int) -> Call[Json]:
    return Call("GET", f"reviews/{number}")


def decide_review(number: int, verdict: str, *, etag: str, **fields: Any) -> Call[Json]:
    """`verdict`: accept, own, pick:2, send_back:2, exclude:2; `cause`, `comment`, `score`, …"""
    body = {"verdict": verdict, **fields}
    return Call("POST", f"reviews/{number}/decision", body=body, etag=etag)


def skip_review(number: int) -> Call[Json]:
    return Call("POST", f"reviews/{number}/skip", body={})


def list_talks() -> Call[Page[Json]]:
    return Call("GET", "talks")


def open_talks(first: int, goal: str, count: int, **fields: Any) -> Call[Json]:
    """`first`: the id of a policy; `second`, `harm`, `length`."""
    return Call("POST", "talks", body={"first": first, "goal": goal, "count": count, **fields})


def list_judges() -> Call[Page[Json]]:
    return Call("GET", "judges")


def add_judge(name: str, policy: int, rubric: str, form: str = "pair") -> Call[Json]:
    """`form`: pair, rating, yes_no."""
    said = {"name": name, "policy": policy, "rubric": rubric, "form": form}
    return Call("POST", "judges", body=said)


def retrieve_judge(number: int) -> Call[Json]:
    return Call("GET", f"judges/{number}")


def run_judge(number: int, scope: str, budget: int) -> Call[Json]:
    """Gives it tasks: `scope` is ranked or open."""
    return Call("POST", f"judges/{number}/run", body={"scope": scope, "budget": budget})


def list_documents(**filters: str) -> Call[Page[Json]]:
    """`source`."""
    return Call("GET", "documents", query=filters)


def add_document(content: bytes, name: str) -> Call[Json]:
    """A file; its name says how it is read, and which one it supersedes."""
    return Call("POST", "documents", files={"file": (name, content)})


def delete_documents(source: str) -> Call[Json]:
    """All versions of one name."""
    return Call("DELETE", "documents", query={"source": source})


def search_passages(question: str) -> Call[Json]:
    return Call("GET", "passages", query={"q": question})


def upload(content: bytes, name: str) -> Call[Upload]:
    """A file to import; its name says how it is read."""
    return Call("POST", "imports", files={"file": (name, content)})


def list_imports() -> Call[Page[Json]]:
    """One's own files that are not imported yet."""
    return Call("GET", "imports")


def discard_import(number: int) -> Call[None]:
    return Call("DELETE", f"imports/{number}")


def run_import(number: int, **choices: Any) -> Call[Imported]:
    """`kind`, `columns`, `leave_out_bad`, `dry_run`, …"""
    return Call("POST", f"imports/{number}/run", body=choices)


def export(kind: str, *, format: str = "jsonl", **filters: str) -> Call[bytes]:
    """A whole file: `jsonl`, `csv` or `parquet`."""
    return Call("GET", f"exports/{kind}", query={"format": format, **filters}, is_raw=True)


def list_rounds() -> Call[Page[Round]]:
    return Call("GET", "rounds")


def retrieve_round(number: int) -> Call[Round]:
    return Call("GET", f"rounds/{number}")


def plan_round(*, base: int, stages: Sequence[str], recipe: str, **chosen: Any) -> Call[Plan]:
    """What a round would do: the dry run."""
    return Call("POST", "rounds", body=_round(base, stages, recipe) | chosen | {"dry_run": True})


def launch_round(*, base: int, stages: Sequence[str], recipe: str, **chosen: Any) -> Call[Round]:
    """`settings`, `filters`, `seed`, `note`, `ask_people`, `next_batch`, `follows`."""
    return Call("POST", "rounds", body=_round(base, stages, recipe) | chosen)


def _round(base: int, stages: Sequence[str], recipe: str) -> Json:
    return {"base": base, "stages": list(stages), "recipe": recipe}


def cancel_round(number: int) -> Call[Round]:
    return Call("POST", f"rounds/{number}/cancel", body={})


def resume_round(number: int) -> Call[Round]:
    return Call("POST", f"rounds/{number}/resume", body={})


def list_runs(round: int | None = None) -> Call[Page[Run]]:
    return Call("GET", "runs", query={} if round is None else {"round": round})


def retrieve_run(number: int) -> Call[Run]:
    return Call("GET", f"runs/{number}")


def cancel_run(number: int) -> Call[Run]:
    return Call("POST", f"runs/{number}/cancel", body={})


def list_metrics(run: int, after: int = -1) -> Call[Json]:
    """The numbers of the steps beyond `after`."""
    return Call("GET", f"runs/{run}/metrics", query={"after": after})


def list_policies() -> Call[Page[Policy]]:
    return Call("GET", "policies")


def retrieve_gate(policy: int) -> Call[Json]:
    return Call("GET", f"policies/{policy}/gate")


def promote(policy: int, reason: str, override: str = "") -> Call[Promotion]:
    body = {"reason": reason} | ({"override": override} if override else {})
    return Call("POST", f"policies/{policy}/promote", body=body)


def challenge(policy: int, reason: str) -> Call[Promotion]:
    return Call("POST", f"policies/{policy}/challenge", body={"reason": reason})


def reject(policy: int, reason: str) -> Call[Promotion]:
    return Call("POST", f"policies/{policy}/reject", body={"reason": reason})


def roll_back(reason: str, to: int | None = None) -> Call[Promotion]:
    body: Json = {"reason": reason} | ({} if to is None else {"to": to})
    return Call("POST", "roll-back", body=body)


def list_promotions() -> Call[Page[Promotion]]:
    return Call("GET", "promotions")


def retrieve_evaluations() -> Call[Json]:
    return Call("GET", "evaluations")


def list_suites() -> Call[Json]:
    return Call("GET", "suites")


def create_suite(name: str, lines: str) -> Call[Json]:
    """A check a line."""
    return Call("POST", "suites", body={"name": name, "lines": lines})


def list_suite_results(policy: int | None = None) -> Call[Page[Json]]:
    return Call("GET", "suite-results", query={} if policy is None else {"policy": policy})


def evaluate(policies: Sequence[int], samples: int = 1) -> Call[Run]:
    """Has all suites asked of them."""
    return Call("POST", "suite-results", body={"policies": list(policies), "samples": samples})


def log_answers(answers: Sequence[Json]) -> Call[Json]:
    """Answers of other servers: `external_id`, `model`, `messages`, `answer`, …"""
    return Call("POST", "answers", body={"answers": list(answers)})


def give_feedback(thumb: str | EllipsisType | None = ..., **fields: Any) -> Call[Thumb]:
    """`thumb`: "up", "down", or None, which takes it back; left out, it stays as it is. With
    `completion_id` or `external_id`; `reasons`, `note`, `wanted_answer`; `rating`, `metrics`,
    `tags`."""
    return Call("POST", "feedback", body=fields if thumb is ... else {"thumb": thumb, **fields})


def give_preference(verdict: str | None, **answers: str) -> Call[Preference]:
    """How the first answer is beside the other: "better", "same", "worse"; None takes it back. With
    `completion_id` or `external_id`, and `other_completion_id` or `other_external_id`."""
    return Call("POST", "preferences", body={"verdict": verdict, **answers})


def forget_end_user(name: str) -> Call[Json]:
    """Deletes all exchanges of an end user, named as in `user`."""
    # As it is, ".." would lead elsewhere.
    return Call("DELETE", f"end-users/{quote(name, safe='').replace('.', '%2E')}")


def list_measures() -> Call[Json]:
    """Ratings, metrics and tags, per policy."""
    return Call("GET", "measures")
