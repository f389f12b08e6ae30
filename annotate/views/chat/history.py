"""All chats of a guest: searched, taken along as files, shared by a link, deleted."""

from __future__ import annotations

from django import forms
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotate.access import Request, Role, conversation_for, project_for, share_for
from annotate.chat.conversations import Conversation
from annotate.chat.history import as_json, as_markdown, by_date, file_name
from annotate.chat.shares import NothingToShare, Share
from annotate.paging import counted, page_of
from annotate.prompts.search import alternatives


class ChatFilter(forms.Form):
    words = forms.CharField(
        required=False,
        max_length=200,
        label="Search your chats",
        widget=forms.TextInput(attrs={"type": "search"}),
        error_messages={
            "null_characters_not_allowed": "Take out the NUL character: no chat has one.",
        },
    )

    def clean_words(self) -> str:
        words: str = self.cleaned_data["words"]
        if words and not alternatives(words):
            raise forms.ValidationError(
                "There is nothing to search for. Type a word, or part of one."
            )
        return words


class ShareForm(forms.Form):
    days = forms.TypedChoiceField(
        label="The link works for",
        coerce=int,
        initial=7,
        choices=[(1, "1 day"), (7, "7 days"), (30, "30 days")],
    )


@require_GET
def chat_history(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.GUEST)
    form = ChatFilter(request.GET)
    mine = Conversation.objects.of_guest(request.user, project)
    words = form.cleaned_data["words"] if form.is_valid() else ""
    found = mine.matching(words) if form.is_valid() else mine.none()
    page = page_of(found, request.GET, newest_first=True)
    context = {
        "project": project,
        "form": form,
        "words": words,
        "page": page,
        "groups": by_date(page.rows),
        "count": counted(found),
        "has_any": bool(page.rows) or mine.exists(),
    }
    return render(request, "annotate/chat_history.html", context)


@require_POST
def chat_delete_all(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.GUEST)
    Conversation.objects.of_guest(request.user, project).erase()
    return redirect("chat_history", slug=slug)


@require_GET
def chat_export(request: Request, slug: str, conversation_id: int, ending: str) -> HttpResponse:
    """A chat as a file: `md` to read, `json` with all drafts and versions."""
    chat = conversation_for(request, slug, conversation_id)
    if ending not in ("md", "json"):
        raise Http404("Nothing here.")
    is_json = ending == "json"
    text = as_json(chat) if is_json else as_markdown(chat)
    return HttpResponse(
        text,
        content_type="application/json" if is_json else "text/markdown; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{file_name(chat, ending)}"'},
    )


@require_http_methods(["GET", "POST"])
def chat_share(request: Request, slug: str, conversation_id: int) -> HttpResponse:
    """Makes a read-only link, and lists those there are. The link itself is shown once."""
    chat = conversation_for(request, slug, conversation_id)
    form = ShareForm(request.POST or None)
    link = ""
    if request.method == "POST" and form.is_valid():
        try:
            link = Share.issue(chat, days=form.cleaned_data["days"])
        except NothingToShare:
            form.add_error(None, "There is no answer to share yet.")
    context = {
        "project": chat.project,
        "conversation": chat,
        "form": form,
        "link": link,
        "shares": chat.shares.open(),
    }
    status = 422 if form.errors else 200
    return render(request, "annotate/chat_share.html", context, status=status)


@require_POST
def chat_unshare(request: Request, slug: str, conversation_id: int, share_id: int) -> HttpResponse:
    share_for(request, slug, conversation_id, share_id).delete()
    return redirect("chat_share", slug=slug, conversation_id=conversation_id)


@login_not_required
@require_GET
def shared_chat(request: HttpRequest, key: str) -> HttpResponse:
    """What somebody shared, for whoever has the link. It is in no index and in no cache, and its
    address goes nowhere."""
    share = Share.of_link(key)
    if share is None:
        return render(request, "annotate/shared_chat_gone.html", status=404)
    context = {"title": str(share.conversation), "messages_shown": share.messages()}
    page = render(request, "annotate/shared_chat.html", context)
    page.headers["X-Robots-Tag"] = "noindex, nofollow"
    page.headers["Referrer-Policy"] = "no-referrer"
    page.headers["Cache-Control"] = "no-store"
    return page


of_conversation = [
    path("export.<slug:ending>", chat_export, name="chat_export"),
    path("share/", chat_share, name="chat_share"),
    path("share/<int:share_id>/end/", chat_unshare, name="chat_unshare"),
]
