"""Settings. Every value an installation may change is read from the environment, here and nowhere
else, and stands in the README's table of settings (a test compares the two)."""

import json
import os
import secrets
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path
from tempfile import NamedTemporaryFile
from urllib.parse import parse_qsl, unquote, urlsplit

import environ
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from feedback_site.installation import home

BASE_DIR = home.HOME
env = environ.Env()

DATA_DIR = Path(env.str("DATA_DIR", default=str(home.DATA_DIR))).resolve()
DATA_DIR.parent.mkdir(parents=True, exist_ok=True)
# What the site writes is for whoever runs it alone: labels, chats, models, logs.
os.umask(0o077)
DATA_DIR.mkdir(exist_ok=True)

# `make run` notes here where the services it embeds listen, so that `manage.py` finds them too.
_services_file = DATA_DIR / "services.json"
_embedded = json.loads(_services_file.read_text()) if _services_file.exists() else {}


def _secret_key() -> str:
    key = env.str("SECRET_KEY", default="")
    if not key:
        file = DATA_DIR / "secret_key"
        if not file.exists():
            # Of processes that start at once the first wins, and none reads half a key.
            with NamedTemporaryFile("w", dir=DATA_DIR) as made, suppress(FileExistsError):
                made.write(secrets.token_urlsafe(64))
                made.flush()
                os.link(made.name, file)
        key = file.read_text().strip()
    if len(key) < 50:
        raise ImproperlyConfigured(
            "SECRET_KEY is shorter than 50 characters. Unset it, and one is made in DATA_DIR."
        )
    return key


SECRET_KEY = _secret_key()
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])
DEBUG = env.bool("DEBUG", default=False)
OWN_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=OWN_HOSTS)
if DEBUG and not set(ALLOWED_HOSTS) <= {*OWN_HOSTS, ".localhost"}:
    raise ImproperlyConfigured(
        "DEBUG shows settings and code to whoever meets an error, and ALLOWED_HOSTS lets others in."
        " Unset one of the two."
    )
PORT = env.int("PORT", default=8000)
_site_url = f"http://127.0.0.1:{PORT}" if "PORT" in os.environ else _embedded.get("site_url", "")
SITE_URL = env.str("SITE_URL", default=_site_url or f"http://127.0.0.1:{PORT}").rstrip("/")
HTTPS = SITE_URL.startswith("https://")
TRUSTED_PROXIES = env.list("TRUSTED_PROXIES", default=[])
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")
METRICS_FROM = env.list("METRICS_FROM", default=[])
for _each in (*TRUSTED_PROXIES, *METRICS_FROM):
    ip_network(_each, strict=False)  # ValueError says which is none

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.staticfiles",
    "django.forms",
    "django_htmx",
    "rest_framework",
    "drf_spectacular",
    "axes",
    "allauth",
    "allauth.account",
    "allauth.socialaccount",
    "allauth.mfa",
    "corsheaders",
    "feedback_site",
    "annotate",
    "rlhf",
]

MIDDLEWARE = [
    "feedback_site.web.request_id.RequestIdMiddleware",
    "feedback_site.web.metrics.MetricsMiddleware",
    "feedback_site.web.forwarded.ForwardedMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "feedback_site.web.no_store.NoStoreMiddleware",
    "csp.middleware.CSPMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "feedback_site.web.signed_in.SignedInMiddleware",
    "annotate.limits.LimitsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "annotate.accounts.confirming.ConfirmMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "feedback_site.web.timezones.ViewerTimezoneMiddleware",
    "axes.middleware.AxesMiddleware",
    "feedback_site.web.full_disk.FullDiskMiddleware",
]

ROOT_URLCONF = "feedback_site.urls"
WSGI_APPLICATION = "feedback_site.wsgi.application"

FORM_RENDERER = "django.forms.renderers.TemplatesSetting"  # templates/django/forms
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "annotate.navigation.navigation",
            ],
            "builtins": ["annotate.templatetags.show"],
        },
    }
]

DATABASE_URL = env.str("DATABASE_URL", default=_embedded.get("database_url", ""))
# Without an address Django connects nowhere; the check in `feedback_site.checks` says so.
_database = env.db_url_config(DATABASE_URL or "postgres://nowhere.invalid/feedback_site")
_options = _database.get("OPTIONS", {})
# Off: for a pooler that cannot keep prepared statements, or to see what they are worth.
PREPARED_QUERIES = _options.pop("prepared", "on") != "off"
_pool = {"pool": {"min_size": 1, "max_size": 16, "timeout": 10}}
DATABASES = {
    "default": {
        **_database,
        "CONN_MAX_AGE": 0,  # the pool keeps connections
        "OPTIONS": {
            **_pool,
            "prepare_threshold": 1_000_000,  # only what `feedback_site.prepared` asks for
            **_options,
        },
    }
}

REDIS_URL = env.str("REDIS_URL", default=_embedded.get("redis_url", ""))
INFERENCE_URL = env.str("INFERENCE_URL", default=_embedded.get("inference_url", "")).rstrip("/")
INFERENCE_API_KEY = env.str("INFERENCE_API_KEY", default=_embedded.get("inference_api_key", ""))
INFERENCE_ENDPOINTS = [each.rstrip("/") for each in env.list("INFERENCE_ENDPOINTS", default=[])]

# Training
BASE_MODEL = env.str("BASE_MODEL", default="smol")
TRAIN_LAUNCHER = env.str("TRAIN_LAUNCHER", default="")
PUBLISHED_GROUP = env.str("PUBLISHED_GROUP", default="")  # read by the trainer
LEASE_SECONDS = env.float("LEASE_SECONDS", default=60.0)
TRACKERS = list(dict.fromkeys(env.list("TRACKERS", default=[])))
if _unknown := {*TRACKERS} - {"mlflow", "tensorboard", "trackio", "wandb"}:
    raise ImproperlyConfigured(
        f"TRACKERS names {', '.join(sorted(_unknown))}: choose among mlflow, tensorboard, trackio"
        " and wandb, separated by commas."
    )

AUTH_USER_MODEL = "annotate.User"
LOGIN_URL = "sign_in"
LOGIN_REDIRECT_URL = "home"
CSRF_FAILURE_VIEW = "feedback_site.web.signed_in.csrf_failure"
PASSWORD_RESET_TIMEOUT = 3 * 24 * 3600  # also the life of a one-time sign-in link
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "annotate.people.sign_in.Backend",
]
PASSWORD_HASHERS = ["feedback_site.passwords.Argon2", "feedback_site.passwords.PBKDF2"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = 0.25  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_LOCKOUT_TEMPLATE = "annotate/locked_out.html"

# Second factors, addresses and provider accounts are django-allauth's; its pages are not used.
MFA_ADAPTER = "annotate.accounts.second_factor.Adapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_TOTP_TOLERANCE = 1  # steps of 30 s by which clocks may differ
MFA_TOTP_ISSUER = f"Feedback Site, {SITE_URL.partition('://')[2]}"

# An identity provider by which people may sign in: https://CLIENT:SECRET@its.issuer?name=Its+name
_oidc = urlsplit(env.str("OIDC_URL", default=""))
_said = dict(parse_qsl(_oidc.query))
OIDC_ISSUER = _oidc._replace(netloc=_oidc.netloc.rpartition("@")[2], query="").geturl()
OIDC_CLIENT_ID, OIDC_CLIENT_SECRET = unquote(_oidc.username or ""), unquote(_oidc.password or "")
OIDC_NAME = _said.get("name", "single sign-on")
OIDC_CREATE_ACCOUNTS = _said.get("create_accounts") == "1"
if OIDC_ISSUER and not (OIDC_CLIENT_ID and OIDC_CLIENT_SECRET):
    raise ImproperlyConfigured("OIDC_URL needs the client's id and secret before the @.")
if OIDC_ISSUER and _oidc.scheme != "https" and _oidc.hostname not in OWN_HOSTS:
    raise ImproperlyConfigured("OIDC_URL must begin with https://.")

# E-mail: smtp+tls://user:password@host:587?from=site@example.org. Without a server none is sent,
# and the pages do not offer it.
EMAIL_URL = env.str("EMAIL_URL", default="")
MAIL_IS_SET_UP = bool(EMAIL_URL)
_mail = urlsplit(EMAIL_URL)
if MAIL_IS_SET_UP:
    globals().update(env.email_url_config(_mail._replace(query="").geturl()))
EMAIL_TIMEOUT = 20  # seconds
DEFAULT_FROM_EMAIL = dict(parse_qsl(_mail.query)).get("from", "feedback-site@localhost")

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"  # what `collectstatic` compresses, for the web or a proxy
STATIC_ROOT.mkdir(exist_ok=True)
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "feedback_site.web.static_files.Hashed"},
}
WHITENOISE_USE_FINDERS = not (STATIC_ROOT / "annotate").exists()
DATA_UPLOAD_MAX_MEMORY_SIZE = 5 * 2**20
FILE_UPLOAD_MAX_MEMORY_SIZE = 5 * 2**20
LARGEST_UPLOAD = 201 * 2**20  # the body of a form with the largest file, and what is around it

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SESSION_ENGINE = "feedback_site.web.sessions"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_AGE = 30 * 24 * 3600
SECURE_SSL_REDIRECT = False  # the proxy in front ends TLS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if HTTPS else 0
SILENCED_SYSTEM_CHECKS = [
    "security.W005",  # what else is below the host's name is not ours to bind to TLS,
    "security.W021",  # nor to have browsers told of beforehand
    "security.W008",  # the proxy in front redirects
]
CSRF_TRUSTED_ORIGINS = [SITE_URL] if HTTPS else []

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.SessionAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["feedback_site.web.permissions.Denied"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "EXCEPTION_HANDLER": "feedback_site.web.api_errors.answer",
    "URL_FORMAT_OVERRIDE": None,  # `format` is for our own operations to read
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Feedback Site",
    "ENUM_NAME_OVERRIDES": {
        "ToolTypeEnum": ["function"],
        "ResponseFormatTypeEnum": ["text", "json_object", "json_schema"],
    },
}

# Pages of these origins may call the API from a browser, with a token and never with a cookie.
CORS_ALLOWED_ORIGINS = env.list("CORS_ALLOWED_ORIGINS", default=[])
CORS_URLS_REGEX = r"^/(v1|api/v1)/"
CORS_EXPOSE_HEADERS = ["etag", "idempotent-replayed", "retry-after", "x-request-id"]
CORS_ALLOW_HEADERS = [
    "accept",
    "authorization",
    "content-type",
    "idempotency-key",
    "if-match",
    "user-agent",
    "x-request-id",
    # What the openai package for JavaScript sends.
    *(
        f"x-stainless-{name}"
        for name in (
            "arch",
            "helper-method",
            "lang",
            "os",
            "package-version",
            "retry-count",
            "runtime",
            "runtime-version",
            "timeout",
        )
    ),
]

LOG_FORMAT = env.str("LOG_FORMAT", default="line")
_formatters = {"line": "feedback_site.web.logs.Line", "json": "feedback_site.web.logs.Json"}
if LOG_FORMAT not in _formatters:
    raise ImproperlyConfigured(f"LOG_FORMAT is {LOG_FORMAT!r}: choose line or json.")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request_id": {"()": "feedback_site.web.request_id.WithRequestId"}},
    "formatters": {
        "chosen": {
            "()": _formatters[LOG_FORMAT],
            "format": "%(asctime)s %(levelname)s %(name)s %(request_id)s %(message)s",
        }
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "filters": ["request_id"],
            "formatter": "chosen",
        }
    },
    "loggers": {
        "httpx": {"level": "WARNING"},
        "axes": {"level": "WARNING"},
        "django": {"handlers": ["console"], "propagate": False},  # it has a format of its own
        "uvicorn": {"handlers": ["console"], "propagate": False},  # so has this
    },
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", default="INFO")},
}
