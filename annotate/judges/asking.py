"""Workers ask the questions of judges: as many at once as the server allows, each of them once.

A slice is short, so that the other small jobs of the worker get their turn."""

from __future__ import annotations

from annotate.chat import inference
from annotate.chat.inference import InferenceError
from annotate.costs.recording import price_of
from annotate.costs.uses import Use
from annotate.judges.questions import JudgeQuestion
from annotate.judges.runs import JudgeRun
from annotate.judges.words import AnswerForm, once_more
from annotate.playground.asking import (
    AT_ONCE,
    MOST_TRIES,
    SLICE_SECONDS,
    Said,
    ask_side_by_side,
    listen,
    sum_of,
)
from annotate.prompts.models import Messages
from annotate.prompts.policies import Policy


def ask_for_a_while(run: JudgeRun, seconds: float = SLICE_SECONDS) -> int:
    """Asks questions that wait, and returns how many; begins none after so many seconds."""
    speaker = run.judge.speaker
    at_once = speaker.connection.parallel if speaker.connection else AT_ONCE
    lanes = [(run.questions, at_once)]
    return ask_side_by_side(lanes, lambda question: _ask(question, speaker), seconds)


def _ask(question: JudgeQuestion, speaker: Policy) -> str:
    """Asks one question, once more if the reply cannot be read, and stores what came of it. Returns
    what went wrong, or nothing."""
    form = question.ranking.judge.words
    asked = question.messages(question.ranking.task.prompt)
    said: list[Said] = []
    try:
        verdict = heard(form, speaker, asked, said)
    except InferenceError as error:
        if str(error) == inference.BUSY and not said and question.tries < MOST_TRIES:
            question.put_back()
            return ""
        question.fail(str(error))
        return str(error)
    usage = sum_of([each.usage for each in said])
    question.answer(
        said=verdict,
        reply=said[-1].text,
        replies=len(said),
        usage=usage,
        total_ms=sum(each.total_ms for each in said),
        price=price_of(speaker, usage),
    )
    return ""


def heard(form: AnswerForm, speaker: Policy, asked: Messages, said: list[Said]) -> str | None:
    """The verdict of a model, asked once more if its reply cannot be read; its replies are added to
    `said`. Raises InferenceError."""
    said.append(listen(speaker, asked, seed=0, use=Use.JUDGE))
    verdict = form.read(said[-1].text)
    if verdict is None:
        again = once_more(form, asked, said[-1].text)
        said.append(listen(speaker, again, seed=1, use=Use.JUDGE))
        verdict = form.read(said[-1].text)
    return verdict


def waiting_run() -> JudgeRun | None:
    """The oldest run that has questions to ask; marks those of dead workers first."""
    JudgeQuestion.objects.give_up_lapsed()
    question = JudgeQuestion.objects.waiting().order_by("ranking__run_id").first()
    if question is None:
        return None
    return JudgeRun.objects.select_related("judge").get(pk=question.ranking.run_id)
