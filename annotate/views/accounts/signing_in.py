"""The ways in: by password, by link, by e-mail, by an identity provider; and the second factor."""

from __future__ import annotations

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.forms import AuthenticationForm, SetPasswordForm
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_GET, require_http_methods

from annotate.accounts import mails
from annotate.accounts import provider as identity
from annotate.accounts.mail_tokens import reset_tokens
from annotate.accounts.mails import Mail, tell
from annotate.accounts.second_factor import has_key, key_to_use, use_code, use_key
from annotate.accounts.sign_ins import SignIn
from annotate.accounts.signing_in import (
    asked_person,
    come_in,
    come_in_with,
    person_of_link,
    sign_in_by,
)
from annotate.audit.recording import Act, about, recorded, recording
from annotate.people.models import User
from annotate.people.sign_in import user_of_link

SENT = "If an account has this address, a message is on its way. Its link works once."


class SignInPage(LoginView):
    template_name = "annotate/sign_in.html"

    def get_context_data(self, **kwargs: object) -> dict[str, object]:
        ways = {"by_mail": mails.is_set_up(), "by_provider": identity.is_set_up()}
        name = settings.OIDC_NAME
        return super().get_context_data(**kwargs, **ways, provider_name=name)

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        with recorded():
            person: User = form.get_user()
            return come_in(self.request, person, way=SignIn.Way.PASSWORD, to=self.get_success_url())


@login_not_required
@require_http_methods(["GET", "POST"])
def sign_in_by_link(request: HttpRequest, uid: str, token: str) -> HttpResponse:
    """A link is used up by the button, not by opening it: mail scanners open links."""
    if request.method == "POST" and (let_in := sign_in_by(request, uid, token)):
        return let_in
    person, _ = person_of_link(uid, token)
    if person is None:
        return render(request, "annotate/link_used.html", status=410)
    return render(request, "annotate/sign_in_by_link.html", {"person": person})


@login_not_required
@require_http_methods(["GET", "POST"])
def second_factor(request: HttpRequest) -> HttpResponse:
    """What is asked of those who have an app or a security key, whichever way they come."""
    person = asked_person(request)
    if person is None:
        return redirect("sign_in")
    is_sent = request.method == "POST"
    if is_sent:
        credential = request.POST.get("key", "")
        code = request.POST.get("code", "")
        factor = use_key(person, credential) if credential else use_code(person, code)
        if factor:
            return come_in_with(request, person, factor=factor)
    context = {"is_wrong": is_sent, "key": key_to_use(person) if has_key(person) else ""}
    status = 422 if is_sent else 200
    return render(request, "annotate/accounts/second_factor.html", context, status=status)


class AddressForm(forms.Form):
    address = forms.EmailField(
        label="E-mail address",
        max_length=254,
        widget=forms.EmailInput({"autocomplete": "email", "dir": "auto"}),
    )


@login_not_required
@require_http_methods(["GET", "POST"])
def sign_in_by_mail(request: HttpRequest) -> HttpResponse:
    """The same answer, whether there is an account or not: a worker finds out."""
    if not mails.is_set_up():
        return redirect("sign_in")
    form = AddressForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        kind = Mail.Kind.RESET if request.POST.get("act") == "reset" else Mail.Kind.SIGN_IN
        Mail.write(kind, form.cleaned_data["address"].lower())
        messages.success(request, SENT)
        return redirect("sign_in_by_mail")
    status = 422 if form.errors else 200
    return render(request, "annotate/accounts/by_mail.html", {"form": form}, status=status)


@login_not_required
@require_http_methods(["GET", "POST"])
def password_reset(request: HttpRequest, uid: str, token: str) -> HttpResponse:
    """Sets a password, and signs nobody in: the second factor is asked for at the sign-in."""
    person = user_of_link(uid, token, kind=reset_tokens)
    if person is None:
        return render(request, "annotate/link_used.html", status=410)
    form = SetPasswordForm(person, request.POST if request.method == "POST" else None)
    if form.is_valid():
        form.save(commit=False)  # hashes it, which holds no connection
        if not _keep_password(person, uid, token):
            return render(request, "annotate/link_used.html", status=410)
        messages.success(request, "Password set. Sign in with it now.")
        return redirect("sign_in")
    status = 422 if form.errors else 200
    context = {"form": form, "person": person}
    return render(request, "annotate/accounts/password_reset.html", context, status=status)


@recorded()
def _keep_password(person: User, uid: str, token: str) -> bool:
    """Of several who use the link at once one sets the password."""
    locked = User.objects.select_for_update()
    is_first = user_of_link(uid, token, people=locked, kind=reset_tokens) is not None
    if is_first:
        about(person, by=person)
        person.save(update_fields=["password"])
        tell(person, "A new password was set by a link sent to this address.")
    return is_first


@login_not_required
@require_GET
def provider(request: HttpRequest) -> HttpResponse:
    """Goes to the identity provider."""
    if not identity.is_set_up():
        return redirect("sign_in")
    to = request.GET.get("next", "")
    hosts = {request.get_host()}
    is_ours = url_has_allowed_host_and_scheme(to, hosts, require_https=request.is_secure())
    try:
        return redirect(identity.begin(request, to=to if is_ours else reverse("home")))
    except identity.CannotSignIn as error:
        return _refused(request, error)


@login_not_required
@require_GET
def provider_answer(request: HttpRequest) -> HttpResponse:
    """Comes back from it."""
    if not identity.is_set_up():
        return redirect("sign_in")
    try:
        answer = identity.heard(request)
        with recording(Act("provider_answer")) as act:
            if answer.connects is not None:
                return _connect(request, answer, act)
            person = identity.person_of(answer.claims)
            act.actor = person.pk
            return come_in(request, person, way=SignIn.Way.PROVIDER, to=answer.to)
    except identity.CannotSignIn as error:
        return _refused(request, error)


def _connect(request: HttpRequest, answer: identity.Answer, act: Act) -> HttpResponse:
    person = request.user
    if not isinstance(person, User) or person.pk != answer.connects:
        raise identity.CannotSignIn("Somebody else is signed in here now. Begin again.")
    act.actor = person.pk
    identity.connect(person, answer.claims)
    tell(person, f"{settings.OIDC_NAME} can be used to sign in from now on.")
    messages.success(request, f"You can sign in with {settings.OIDC_NAME} from now on.")
    return redirect("security")


def _refused(request: HttpRequest, error: Exception) -> HttpResponse:
    context = {"said": str(error), "provider_name": settings.OIDC_NAME}
    return render(request, "annotate/accounts/provider_refused.html", context, status=403)


addresses = [
    path("sign-in/", SignInPage.as_view(), name="sign_in"),
    path("sign-in/second-factor/", second_factor, name="second_factor"),
    path("sign-in/by-mail/", sign_in_by_mail, name="sign_in_by_mail"),
    path("sign-in/provider/", provider, name="provider"),
    path("sign-in/provider-answer/", provider_answer, name="provider_answer"),
    path("sign-in/password/<str:uid>/<str:token>/", password_reset, name="password_reset"),
    path("sign-in/<str:uid>/<str:token>/", sign_in_by_link, name="sign_in_by_link"),
]
