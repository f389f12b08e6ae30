"""Whatever people type runs in the direction of its own script: dir="auto" on every field."""

import re
from pathlib import Path

import pytest
from django import forms
from django.urls import get_resolver

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"
TAG = re.compile(r"<(?:input|textarea)\b(?:\{%.*?%\}|\{\{.*?\}\}|[^>])*>", re.DOTALL)
TYPE = re.compile(r'\btype="(\w+)"')
TYPED = {None, "text", "search"}  # not numbers, addresses and passwords
TEXTS = (forms.TextInput, forms.Textarea)
NO_TEXTS = (
    *(forms.NumberInput, forms.EmailInput, forms.URLInput, forms.PasswordInput),
    *(forms.DateInput, forms.DateTimeInput),
)


def typed_in(markup: str) -> list[str]:
    """The tags into which somebody types a text."""
    tags = TAG.findall(markup)
    types = [TYPE.search(tag) for tag in tags]
    return [tag for tag, type_ in zip(tags, types, strict=True) if (type_ and type_[1]) in TYPED]


def all_forms(among: type[forms.BaseForm] = forms.BaseForm) -> set[type[forms.BaseForm]]:
    below = set(among.__subclasses__())
    return below.union(*map(all_forms, below))


def test_every_field_that_a_template_writes_has_the_direction_of_its_text():
    tags = [
        (path.name, tag) for path in TEMPLATES.rglob("*.html") for tag in typed_in(path.read_text())
    ]
    assert len(tags) >= 9
    assert [each for each in tags if 'dir="auto"' not in each[1]] == []


def test_every_text_field_of_every_form_has_the_direction_of_its_text():
    get_resolver().url_patterns  # noqa: B018 - loads every view
    ours = [form for form in all_forms() if form.__module__.startswith(("annotate.", "rlhf."))]
    widgets = [
        (form.__name__, name, field.widget)
        for form in ours
        for name, field in form.base_fields.items()
        if isinstance(field.widget, TEXTS) and not isinstance(field.widget, NO_TEXTS)
    ]
    assert len(widgets) >= 30
    assert [
        (form, name)
        for form, name, widget in widgets
        if 'dir="auto"' not in widget.render(name, "שלום")
    ] == []


@pytest.mark.parametrize("widget", [forms.TextInput, forms.Textarea])
def test_a_field_says_what_djangos_own_says_and_the_direction(widget):
    built_in = forms.renderers.DjangoTemplates()
    attrs = {"id": "a", "required": True, "disabled": False, "maxlength": 9}
    for value in (None, "", 'a "quoted" <b>\nline'):
        ours = widget(attrs).render("x", value)
        theirs = widget(attrs).render("x", value, renderer=built_in)
        assert " ".join(ours.replace(' dir="auto"', "").split()) == " ".join(theirs.split())


def test_a_text_cut_short_stands_in_an_isolate_of_its_own_direction():
    cut = re.compile(r"""(<bdi>|dir="auto">|.{5})\{\{ [\w.]+\|truncatechars:\w+""")
    before = [
        found for path in TEMPLATES.rglob("*.html") for found in cut.findall(path.read_text())
    ]
    assert len(before) >= 15 and set(before) <= {"<bdi>", 'dir="auto">'}
