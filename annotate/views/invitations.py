"""Accepting an invitation: by its link, with the account one has or with a new one."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from annotate.accounts.addresses import verify_if_free
from annotate.accounts.mails import proved_address
from annotate.accounts.sign_ins import SignIn, enter
from annotate.audit.recording import about, recorded
from annotate.people.invitations import Invitation
from annotate.people.models import User


class AccountForm(forms.ModelForm):
    password = forms.CharField(
        required=False,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="Without one you need a new link from an operator each time.",
    )

    class Meta:
        model = User
        fields = ("username",)
        help_texts = {"username": "Letters, digits and @ . + - _ only."}
        error_messages = {
            "username": {
                "unique": "This name is taken. If it is you, sign in first; otherwise choose"
                " another name."
            }
        }

    def clean(self) -> dict[str, Any]:
        said = super().clean() or self.cleaned_data
        if password := said.get("password"):
            try:
                validate_password(password, User(username=said.get("username", "")))
            except ValidationError as error:
                self.add_error("password", error)
        return said

    def save(self, commit: bool = True) -> User:
        user: User = super().save(commit=False)
        user.set_password(self.cleaned_data["password"] or None)
        if commit:
            user.save()
        return user


@login_not_required
@require_http_methods(["GET", "POST"])
def invitation(request: HttpRequest, secret: str) -> HttpResponse:
    """Opening the link does nothing: mail scanners open links."""
    found = Invitation.of_link(secret)
    if found is None:
        return render(request, "annotate/link_used.html", status=410)
    is_sent = request.method == "POST"
    if isinstance(request.user, User):
        if is_sent:
            with recorded():
                about(found)
                found.accept(request.user)
            return redirect("project", slug=found.project.slug)
        return render(request, "annotate/invitation.html", {"invitation": found})
    form = AccountForm(request.POST if is_sent else None, initial={"username": found.name})
    if form.is_valid():
        person = form.save(commit=False)  # hashes the password, which holds no connection
        with recorded():
            person.save()
            about(found, by=person)
            accepted = found.accept(person)
            if address := proved_address(found):
                verify_if_free(person, address)
            if not accepted:
                transaction.set_rollback(True)
        if not accepted:
            return render(request, "annotate/link_used.html", status=410)
        enter(request, person, way=SignIn.Way.INVITATION)
        return redirect("project", slug=found.project.slug)
    context = {"invitation": found, "form": form}
    status = 422 if form.errors else 200
    return render(request, "annotate/invitation.html", context, status=status)
