"""Which policy speaks to guests: a decision with a reason, and a way back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from annotate.audit.recording import recorded
from annotate.chat.inference import InferenceError, warm
from annotate.models import Policy, Project, User
from annotate.webhooks.models import Event, announce
from rlhf.learning.contract.manifest import Corrupt
from rlhf.models.checkpoints import Checkpoint, ensure_whole
from rlhf.models.outcomes import Promotion
from rlhf.models.runs import lock_project
from rlhf.registry.gate import Refused, conditions

logger = logging.getLogger(__name__)

Kept = Callable[[Promotion], object]  # told of a decision, in its transaction


def _nobody(made: Promotion) -> None:
    pass


MOVED_ON = (
    "Somebody else changed the live policy in the meantime. Nothing was changed. Check and"
    " try again."
)


def promote(
    policy: Policy, *, by: User, reason: str, override: str = "", kept: Kept = _nobody
) -> Promotion:
    """Makes `policy` live, if the gate lets it pass or `override` says why it should all the same.
    The server loads it first, so that no guest waits for that; should another policy go live
    meanwhile, which the gate has not seen, nothing is changed. Raises gate.Refused."""
    if policy.state == Policy.State.LIVE:
        raise ValidationError(f"{policy} is already live.")
    _check_reason(reason)
    over = _live_in(policy.project)
    seen = conditions(policy)
    failed = [each for each in seen if not each.passed]
    if failed and not override.strip():
        raise Refused(policy, failed)
    return _switch(
        policy,
        by=by,
        reason=reason,
        is_rollback=False,
        kept=kept,
        still=lambda: _live_in(policy.project) == over,
        conditions=[asdict(each) for each in seen],
        override=override.strip() if failed else "",
    )


def roll_back(
    project: Project, *, by: User, reason: str, to: int | None = None, kept: Kept = _nobody
) -> Promotion:
    """Goes back to the policy that was live before the one that is. `to`: the id of the policy that
    whoever decides expects that to be; another one is refused."""
    previous = previous_live(project)
    if previous and to not in (None, previous.pk):
        raise ValidationError(MOVED_ON)
    if previous is None:
        raise ValidationError("There is nothing to roll back to: no other policy was live before.")
    return _switch(
        previous,
        by=by,
        reason=reason,
        is_rollback=True,
        kept=kept,
        still=lambda: previous_live(project) == previous,
    )


def challenge(policy: Policy, *, by: User, reason: str, kept: Kept = _nobody) -> Promotion:
    """Lets `policy` answer a share of the chats, beside the live one."""
    _check_reason(reason)
    _check_speaks(policy)
    _check_whole(policy)
    _warm(policy, must_answer=True)
    with recorded():
        _lock(policy)
        _check_speaks(policy)
        if policy.state in (Policy.State.LIVE, Policy.State.CHALLENGER):
            raise ValidationError(f"{policy} is already {policy.get_state_display().lower()}.")
        previous = policy.go_challenge()
        made = _decided(policy, Promotion.Act.CHALLENGE, by=by, reason=reason, previous=previous)
        kept(made)
        return made


@transaction.atomic
def reject(policy: Policy, *, by: User, reason: str) -> Promotion:
    """Rejects a candidate or challenger: it speaks to no guest; it can still be promoted, with a
    reason."""
    _check_reason(reason)
    _lock(policy)
    if policy.state not in (Policy.State.CANDIDATE, Policy.State.CHALLENGER):
        raise ValidationError(f"{policy} is {policy.get_state_display().lower()}: not a candidate.")
    policy.state = Policy.State.REJECTED
    policy.save(update_fields=["state"])
    return _decided(policy, Promotion.Act.REJECT, by=by, reason=reason)


def _decided(
    policy: Policy, act: str, *, by: User, reason: str, previous: Policy | None = None, **seen: Any
) -> Promotion:
    """The record of a decision. `seen`: what the gate saw, kept with it."""
    made = Promotion.objects.create(
        project=policy.project,
        policy=policy,
        previous=previous,
        act=act,
        reason=reason.strip(),
        decided_by=by,
        **seen,
    )
    told = {
        "policy": policy.name,
        "previous": previous.name if previous else None,
        "act": "roll back" if made.is_rollback else act,
        "reason": made.reason,
        "by": by.username,
    }
    announce(policy.project_id, Event.DECISION, subject="policies", data=lambda: told)
    return made


def previous_live(project: Project) -> Policy | None:
    """Finds where a roll back leads. Rolling back twice goes two policies back, not to and fro."""
    line: list[Policy] = []
    changes = project.promotions.filter(act=Promotion.Act.PROMOTE)
    for promotion in changes.select_related("policy", "previous").order_by("pk"):
        if not line and promotion.previous:
            line.append(promotion.previous)
        if promotion.is_rollback:
            line.pop()
        else:
            line.append(promotion.policy)
    return line[-2] if len(line) > 1 else None


def _check_reason(reason: str) -> None:
    if not reason.strip():
        raise ValidationError("Enter a reason.")


def _check_speaks(policy: Policy) -> None:
    if not policy.folder and not policy.is_elsewhere:
        raise ValidationError(f"{policy} has no weights and no endpoint, so it cannot answer.")


def _check_whole(policy: Policy) -> None:
    """Weights that a run here has published must still be those, to the last byte."""
    try:
        if made := Checkpoint.objects.behind(policy):
            ensure_whole(made)
    except Corrupt as damage:
        raise ValidationError(
            f"The model of {policy} is damaged ({damage}), so nothing was changed. Bring its "
            "folder back from a backup, or choose another policy."
        )


def _lock(policy: Policy) -> None:
    """One decision at a time in a project; the policy as it is now."""
    lock_project(policy.project)
    policy.refresh_from_db()


def _live_in(project: Project) -> Policy | None:
    return project.policies.live().first()


def _switch(
    policy: Policy,
    *,
    by: User,
    reason: str,
    is_rollback: bool,
    kept: Kept,
    still: Callable[[], bool],
    **seen: Any,
) -> Promotion:
    """`still`: whether what the decision rests on holds; asked once nobody else can decide."""
    _check_reason(reason)
    _check_speaks(policy)
    _check_whole(policy)
    _warm(policy, must_answer=not is_rollback)
    with recorded():
        _lock(policy)
        _check_speaks(policy)
        if policy.state == Policy.State.LIVE:
            raise ValidationError(f"{policy} is already live.")
        if not still():
            raise ValidationError(MOVED_ON)
        made = _decided(
            policy,
            Promotion.Act.PROMOTE,
            by=by,
            reason=reason,
            previous=policy.go_live(),
            is_rollback=is_rollback,
            **seen,
        )
        kept(made)
        return made


def _warm(policy: Policy, *, must_answer: bool) -> None:
    """A policy that cannot answer is not promoted; the way back stays open even then."""
    try:
        warm(policy)
    except InferenceError as error:
        if must_answer:
            raise ValidationError(f"{policy} was not promoted: it cannot answer. {error}")
        logger.warning("rolling back to %s without a trial: %s", policy, error)
