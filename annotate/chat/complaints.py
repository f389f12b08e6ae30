"""What a bad answer of the chat asks of labelers: a better one, or its place beside new drafts."""

from __future__ import annotations

from django.db import transaction
from django.db.models import QuerySet

from annotate.chat import inference
from annotate.chat.messages import Message
from annotate.costs.uses import Use
from annotate.documents.consulting import consulted
from annotate.labels.kinds.ranking.tasks import open_ranking
from annotate.people.models import Project
from annotate.prompts.models import FROM_CHAT, Prompt
from annotate.prompts.passages import Read
from annotate.prompts.policies import Completion, Policy
from annotate.work.tasks import Task, TaskQuerySet
from feedback_site import bell

Work = Project.ThumbsDownWork
MOST_DRAFTS = 3
LEAST_TEMPERATURE = 0.7  # colder, new drafts would say what the bad one says


def ask_people(answer: Completion, work: str) -> None:
    """Opens the task for this answer, once, however often it is complained of. To rank it, drafts
    are written first, in the background."""
    if work == Work.WRITE:
        _open_writing(answer)
    elif work == Work.RANK:
        bell.enqueue_on_commit("label", "annotate.jobs.rank_beside_drafts", answer.pk)


@transaction.atomic
def _open_writing(answer: Completion) -> None:
    prompt = Prompt.objects.select_for_update().get(pk=answer.prompt_id)
    project = prompt.project
    writing = prompt.tasks.of_kind(Task.Kind.WRITE)
    task = writing.open().first() or writing.first()
    if task is None:
        task = Task.objects.create(
            project=project,
            prompt=prompt,
            kind=Task.Kind.WRITE,
            overlap=project.overlap,
            batch=FROM_CHAT,
        )
    task.completions.add(answer)
    if task.closed_at is None and task.priority < project.thumbs_down_priority:
        Task.objects.filter(pk=task.pk).update(priority=project.thumbs_down_priority)


def rank_beside_drafts(answer: Completion) -> None:
    """Has people rank a bad answer beside new drafts by the live policy; where the model server
    writes none that differ, they are asked to write one."""
    if _tasks_about(Completion.objects.filter(pk=answer.pk)).of_kind(Task.Kind.RANK).exists():
        return
    message = answer.message
    project = message.conversation.project
    policy = project.policies.live().first() or answer.policy
    read = consulted(policy, message.asked)
    drafts = _new_drafts(policy, message, read, min(project.ranking_size - 1, MOST_DRAFTS))
    with transaction.atomic():
        conversation = message.conversation.held()
        if not conversation.improves_model or not Completion.objects.filter(pk=answer.pk).exists():
            return  # taken back meanwhile
        different = {text for text in drafts if text.strip() and text != answer.text}
        if not different:
            return _open_writing(answer)
        beside = [_store(answer, policy, text, read) for text in sorted(different)]
        shown = [answer.pk, *(each.pk for each in beside)]
        open_ranking(
            project,
            [(answer.prompt_id, shown)],
            project.overlap,
            FROM_CHAT,
            priority=project.thumbs_down_priority,
        )


def _new_drafts(policy: Policy, message: Message, read: list[Read], count: int) -> list[str]:
    context, temperature = policy.messages_for(message.asked, read), policy.temperature
    drafts = []
    for _ in range(count):
        try:
            said = inference.complete(
                policy,
                context,
                use=Use.DRAFTS,
                temperature=max(temperature, LEAST_TEMPERATURE),
            )
        except inference.InferenceError:
            break
        drafts.append(said.text)
    return drafts


def _store(answer: Completion, policy: Policy, text: str, read: list[Read]) -> Completion:
    return Completion.objects.create(
        prompt_id=answer.prompt_id,
        policy=policy,
        text=text,
        source=Completion.Source.CHAT,
        sampling={"beside": answer.pk},
        template_hash=policy.template_hash,
        passages=read,
    )


@transaction.atomic
def withdraw(answers: QuerySet[Completion]) -> None:
    """Nobody complains of these answers any more: takes the tasks back that nobody has begun, with
    the drafts written for them, and shows the answers in no other writing task."""
    answers = Completion.objects.filter(pk__in=list(answers.values_list("pk", flat=True)))
    prompts = list(answers.values_list("prompt", flat=True))
    about = _tasks_about(answers)
    about.of_kind(Task.Kind.RANK).filter(assignments=None).delete()
    links = Task.completions.through.objects.filter(completion__in=answers)
    links.filter(task__kind=Task.Kind.WRITE).delete()
    writing = Task.objects.of_batch(FROM_CHAT).of_kind(Task.Kind.WRITE)
    writing.filter(prompt__in=prompts, completions=None, assignments=None).delete()
    drafts = Completion.objects.filter(prompt__in=prompts, sampling__has_key="beside")
    drafts.filter(message=None, tasks=None, placements=None, edits=None).delete()


def _tasks_about(answers: QuerySet[Completion]) -> TaskQuerySet:
    """Those that were opened for a complaint of one of these."""
    tasks = Task.objects.of_batch(FROM_CHAT).filter(completions__in=answers)
    return Task.objects.filter(pk__in=list(tasks.values_list("pk", flat=True)))
