"""Import in two steps: a file is chosen; its columns, first rows and mistakes are looked at, and
then it is stored as a whole or not at all."""

from __future__ import annotations

import csv
import io
import json
from typing import IO, Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from annotate.access import Request, Role, project_for, upload_for
from annotate.audit.recording import recorded
from annotate.exchange import importing
from annotate.exchange.choices import Choices
from annotate.exchange.columns import FIELDS, LEFT_OUT, problems
from annotate.exchange.files.bad_row import BadRow
from annotate.exchange.files.data_sets import lines_from_the_hub
from annotate.exchange.files.opening import ENCODINGS, foreign_to, unpacked
from annotate.exchange.files.readers import escaped, unusual_separator
from annotate.exchange.importing import Imported, ImportFailed, Preview, beginning, guessed
from annotate.exchange.parts import Part, is_archive, one_table, parts_of
from annotate.exchange.shapes import OURS, SHAPES
from annotate.exchange.uploaded import as_shaped, bring, seen
from annotate.exchange.uploads import Upload
from annotate.people.models import Project, User

LARGEST_UPLOAD = 200 * 2**20
Content = tuple[IO[bytes], str, str]  # what was sent, its name and format
AS_IT_IS = "="
WITHOUT_BAD = "without_bad"


class FilesInput(forms.FileInput):
    allow_multiple_selected = True


class FilesField(forms.FileField):
    """Any number of files."""

    widget = FilesInput

    def clean(self, data: Any, initial: Any = None) -> list[Any]:
        return [super(FilesField, self).clean(each, initial) for each in data or []]


class FileForm(forms.Form):
    file = FilesField(
        required=False,
        label="Files",
        help_text="JSON Lines, JSON, CSV (.csv, .tsv) or Parquet (.parquet), also compressed with "
        "gzip or Zstandard. Choose all parts of a data set together, or its folder as .zip or "
        ".tar.",
    )
    text = forms.CharField(
        required=False,
        label="Paste lines",
        strip=False,
        widget=forms.Textarea(attrs={"rows": 8, "spellcheck": "false", "class": "mono"}),
    )
    data_set = forms.CharField(
        required=False,
        label="Data set on the Hugging Face Hub",
        max_length=200,
        widget=forms.TextInput(attrs={"placeholder": "OWNER/NAME", "spellcheck": "false"}),
    )
    split = forms.CharField(
        required=False,
        label="Split",
        max_length=100,
        help_text="Of a data set that has several: train, test, …",
    )
    config = forms.CharField(
        required=False,
        label="Configuration",
        max_length=100,
        help_text="Of a data set on the hub that has several.",
    )

    def clean(self) -> dict[str, Any]:
        said = super().clean() or self.cleaned_data
        given = [name for name in ("file", "text", "data_set") if said.get(name)]
        if self.errors:
            return said
        if len(given) != 1:
            raise forms.ValidationError(
                "Choose a file, paste some lines or name a data set: one of the three."
            )
        try:
            self.content, self.name, self.format = getattr(self, f"_of_{given[0]}")(said)
        except BadRow as error:
            raise forms.ValidationError(str(error)) from error
        return said

    def keep(self, project: Project, by: User) -> Upload:
        """Stores what was sent, and how it is read as far as its first rows tell."""
        with self.content as file:
            about = {"name": self.name, "format": self.format}
            kept = Upload.keep(project=project, by=by, file=file, **about)
        with kept.open() as content:
            kept.choose(guessed(beginning(content, kept.format)))
        return kept

    def _of_text(self, said: dict[str, Any]) -> Content:
        return io.BytesIO(said["text"].encode()), "", "jsonl"

    def _of_data_set(self, said: dict[str, Any]) -> Content:
        name, about = said["data_set"], {"split": said["split"], "config": said["config"]}
        return lines_from_the_hub(name, limit=LARGEST_UPLOAD, **about), name, "jsonl"

    def _of_file(self, said: dict[str, Any]) -> Content:
        files = said["file"]
        if sum(file.size for file in files) > LARGEST_UPLOAD:
            raise forms.ValidationError(
                f"The file is larger than {LARGEST_UPLOAD // 2**20} MB. "
                "Split it, or use the command import_labels."
            )
        parts = [Part(file.name, unpacked(file.file, limit=LARGEST_UPLOAD)) for file in files]
        if len(parts) == 1 and is_archive(parts[0].file):
            with parts[0].file as archive:
                parts = parts_of(archive, limit=LARGEST_UPLOAD)
        for part in parts:
            if what_to_do := foreign_to(part.file, part.format):
                raise forms.ValidationError(what_to_do)
        content, format = one_table(parts, split=said["split"] if len(parts) > 1 else "")
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        return content, f"{files[0].name}{more}", format


class ChoicesForm(forms.Form):
    """How a file is to be read: its kind, and which of its columns is what."""

    shape = forms.ChoiceField(
        required=False,
        label="Format",
        choices=[(shape.name, shape.label) for shape in SHAPES],
        help_text="Detected from the first rows.",
    )
    each_answer = forms.TypedChoiceField(
        required=False,
        label="Demonstrations of a conversation",
        choices=[("", "its last answer"), ("yes", "each of its answers")],
        coerce=bool,
    )
    kind = forms.ChoiceField(
        required=False,
        label="Kind",
        choices=[("", "detected from the first line"), *((kind, kind) for kind in importing.KINDS)],
        help_text="“prompts” imports only the prompts, from a file of any kind.",
    )
    encoding = forms.ChoiceField(
        required=False, label="Encoding", choices=[*ENCODINGS.items()], help_text="Of a text file."
    )
    key = forms.CharField(
        required=False,
        label="Key of the rows",
        max_length=100,
        help_text="Where the rows are in the JSON object around them, if not detected.",
    )
    references = forms.BooleanField(
        required=False, label="Use the reference answers as demonstrations"
    )

    def __init__(self, upload: Upload, seen: Preview, sent: QueryDict | None = None) -> None:
        initial = {
            "shape": upload.shape,
            "each_answer": "yes" if upload.each_answer else "",
            "kind": upload.kind,
            "encoding": upload.encoding,
            "key": upload.key,
            "references": upload.references,
        }
        super().__init__(sent, initial=initial)
        self.seen, self.columns = seen, upload.columns
        for number, column in enumerate(seen.columns):
            choices = [(LEFT_OUT, "leave it out"), *FIELDS.items()]
            if column not in FIELDS:
                choices.insert(0, (AS_IT_IS, "as it is"))
            chosen = upload.columns.get(column, column if column in FIELDS else AS_IT_IS)
            self.fields[f"column_{number}"] = forms.ChoiceField(
                choices=choices, required=False, initial=chosen, label=column
            )

    @property
    def rows(self) -> list[tuple[forms.BoundField, str]]:
        """Each column with a value of it, cut short."""
        samples = self.seen.columns.values()
        return [(self[f"column_{n}"], _short(value)) for n, value in enumerate(samples)]

    def clean(self) -> dict[str, Any]:
        said = super().clean() or self.cleaned_data
        chosen = {name: self._field_of(n) for n, name in enumerate(self.seen.columns)}
        for problem in problems(chosen.values()):
            self.add_error(None, problem)
        # Kept is only what differs from the names of the file, or shares a field with another.
        counts = [*chosen.values()]
        said["columns"] = {
            name: field
            for name, field in chosen.items()
            if field != AS_IT_IS and (field != name or counts.count(field) > 1)
        }
        return said

    def _field_of(self, number: int) -> str:
        """What was chosen for a column, now or, where nothing was sent, before."""
        name = f"column_{number}"
        is_sent = name in self.data
        return str(self.cleaned_data.get(name, "") if is_sent else self.fields[name].initial)

    @property
    def choices(self) -> Choices:
        """What was chosen; of what was not sent, what was chosen before."""
        said = self.cleaned_data
        return Choices(
            kind=said["kind"],
            shape=said["shape"] or self.initial["shape"],
            columns=said["columns"],
            each_answer=bool(said["each_answer"]),
            encoding=said["encoding"],
            key=said["key"],
        )


@require_http_methods(["GET", "POST"])
def choose(request: Request, slug: str) -> HttpResponse:
    """The first step: a file or pasted lines, or a file one came with before. Lines pasted before
    are there to be changed, if asked for by the number of their upload, `again`."""
    project = project_for(request, slug, Role.OPERATOR)
    uploads = project.uploads.by(request.user)
    before = uploads.pasted(request.GET.get("again", ""))
    initial = {"text": before.text} if before else None
    is_sent = request.method == "POST"
    form = FileForm(
        request.POST if is_sent else None, request.FILES if is_sent else None, initial=initial
    )
    if form.is_valid():
        kept = form.keep(project, request.user)
        if before:
            before.delete()
        return redirect("prompts_import_one", slug, kept.pk)
    shapes = [shape.label for shape in SHAPES if shape is not OURS]
    context = {"project": project, "form": form, "uploads": uploads, "shapes": shapes}
    status = 422 if form.errors else 200
    return render(request, "annotate/prompts_import.html", context, status=status)


@require_http_methods(["GET", "POST"])
def one(request: Request, slug: str, upload_id: int) -> HttpResponse:
    """The second step. “look” reads the file anew as it was chosen, “check” tells what would come
    of the whole file, “import” does it, “discard” forgets the file."""
    upload = upload_for(request, slug, upload_id)
    if "discard" in request.POST:
        upload.delete()
        return redirect("prompts_import", slug)
    sent = request.POST if request.method == "POST" else None
    form = ChoicesForm(upload, seen(upload), sent)
    if not form.is_valid():
        return _page(request, upload, form)
    upload.choose(as_shaped(upload, form.choices), references=form.cleaned_data["references"])
    if "look" in request.POST:
        return redirect("prompts_import_one", slug, upload.pk)
    is_check = "import" not in request.POST
    try:
        if is_check:
            done = bring(upload, dry_run=True)
        else:
            with recorded():
                leave_out_bad = request.POST["import"] == WITHOUT_BAD
                done = bring(upload, dry_run=False, leave_out_bad=leave_out_bad)
                upload.delete()
    except ImportFailed as failed:
        return _page(request, upload, form, failed=failed, status=200 if is_check else 422)
    if is_check:
        return _page(request, upload, form, done=done)
    messages.success(request, str(done))
    return redirect("prompts", slug)


@require_safe
def bad_lines(request: Request, slug: str, upload_id: int) -> HttpResponse:
    """What is wrong with the lines of the file, as CSV."""
    upload = upload_for(request, slug, upload_id)
    reply = HttpResponse(
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="problems.csv"'},
    )
    rows = csv.writer(reply)
    rows.writerow(("line", "problem"))
    try:
        bring(upload, dry_run=True)
    except ImportFailed as failed:
        rows.writerows((each.line, escaped(each.sentence)) for each in failed.kept)
    return reply


def _separator(upload: Upload) -> str:
    """What parts the cells, where one would not take it for granted."""
    if upload.format != "csv":
        return ""
    with upload.open() as file:
        return unusual_separator(file, upload.encoding)


def _page(
    request: Request,
    upload: Upload,
    form: ChoicesForm,
    *,
    done: Imported | None = None,
    failed: ImportFailed | None = None,
    status: int = 200,
) -> HttpResponse:
    context = {
        "project": upload.project,
        "upload": upload,
        "form": form,
        "seen": form.seen,
        "done": done,
        "failed": failed,
        "is_import": "import" in request.POST,
    }
    status = 422 if form.errors else status
    if request.htmx:
        return render(request, "annotate/_import_result.html", context, status=status)
    context["seen"] = seen(upload)  # as it was chosen now
    context["separator"] = _separator(upload)
    return render(request, "annotate/prompts_import_one.html", context, status=status)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 120 else text[:120] + "…"
