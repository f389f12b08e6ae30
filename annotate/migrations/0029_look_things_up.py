import django.contrib.postgres.indexes
import django.contrib.postgres.search
import django.core.validators
import django.db.models.deletion
from django.db import migrations, models

from annotate.documents.cutting import cut
from annotate.documents.words import index_entry

SPLITS = [("train", "Train"), ("validation", "Validation"), ("test", "Test")]
READ = "What it was given to read; see prompts.passages."
READ_BY_MODEL = "What the model was given to read; see prompts.passages."
READ_LAST = "What was read for the last answer; see prompts.passages."
# The table is older than the place of its model.
MOVE = """
ALTER TABLE rlhf_document RENAME TO annotate_document;
ALTER SEQUENCE rlhf_document_id_seq RENAME TO annotate_document_id_seq;
"""
MOVE_BACK = """
ALTER SEQUENCE annotate_document_id_seq RENAME TO rlhf_document_id_seq;
ALTER TABLE annotate_document RENAME TO rlhf_document;
"""


def passages(help_text):
    return models.JSONField(
        db_default=models.Value([], models.JSONField()), default=list, help_text=help_text
    )


def cut_documents(apps, _schema_editor):
    """As today's passages are cut, and not as those of the day of this migration."""
    Document, Passage = (apps.get_model("annotate", name) for name in ("Document", "Passage"))
    for document in Document.objects.only("text").iterator(100):
        Passage.objects.bulk_create(
            Passage(document=document, number=number, text=text, search=index_entry(text))
            for number, text in enumerate(cut(document.text), start=1)
        )


class Migration(migrations.Migration):
    dependencies = [
        ("annotate", "0028_record_calls"),
        ("rlhf", "0015_admit_judges"),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(MOVE, MOVE_BACK)],
            state_operations=[
                migrations.CreateModel(
                    "Document",
                    [
                        ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                        ("text", models.TextField()),
                        ("source", models.CharField(blank=True, max_length=100)),
                        ("content_hash", models.CharField(max_length=64)),
                        ("split", models.CharField(choices=SPLITS, max_length=10)),
                        ("created_at", models.DateTimeField(auto_now_add=True)),
                        (
                            "project",
                            models.ForeignKey(
                                on_delete=django.db.models.deletion.CASCADE,
                                related_name="documents",
                                to="annotate.project",
                            ),
                        ),
                    ],
                    options={"ordering": ["id"]},
                ),
                migrations.AddConstraint(
                    "document",
                    models.UniqueConstraint(
                        fields=["project", "content_hash"], name="one_document_a_content"
                    ),
                ),
            ],
        ),
        migrations.AddField(
            "document", "version", models.PositiveIntegerField(db_default=1, default=1)
        ),
        migrations.AddField("document", "superseded_at", models.DateTimeField(null=True)),
        migrations.RemoveConstraint("document", "one_document_a_content"),
        migrations.AddConstraint(
            "document",
            models.UniqueConstraint(
                condition=models.Q(superseded_at=None),
                fields=["project", "content_hash"],
                name="one_document_a_content",
            ),
        ),
        migrations.CreateModel(
            "Passage",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("number", models.PositiveIntegerField(help_text="In the document, from 1.")),
                ("text", models.TextField()),
                ("search", django.contrib.postgres.search.SearchVectorField(editable=False)),
                (
                    "embedding",
                    models.BinaryField(
                        help_text="Numbers of 4 bytes, of length 1 together.", null=True
                    ),
                ),
                (
                    "embedded_by",
                    models.CharField(blank=True, editable=False, max_length=300),
                ),
                (
                    "document",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="passages",
                        to="annotate.document",
                    ),
                ),
            ],
            options={
                "ordering": ["document", "number"],
                "indexes": [
                    django.contrib.postgres.indexes.GinIndex(
                        fields=["search"], name="passages_by_word"
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=["document", "number"], name="one_passage_a_number"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            "Embedder",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("model_name", models.CharField(max_length=200)),
                ("trouble", models.CharField(blank=True, editable=False, max_length=300)),
                (
                    "connection",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="annotate.connection",
                    ),
                ),
                (
                    "project",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="embedder",
                        to="annotate.project",
                    ),
                ),
            ],
        ),
        migrations.AddField(
            "policy",
            "passages_read",
            models.PositiveSmallIntegerField(
                db_default=0,
                default=0,
                help_text="Of the project's documents, looked up for each question. 0: none.",
                validators=[django.core.validators.MaxValueValidator(20)],
                verbose_name="passages it reads",
            ),
        ),
        migrations.AddField("completion", "passages", passages(READ)),
        migrations.AddField("message", "passages", passages(READ_BY_MODEL)),
        migrations.AddField("turnanswer", "passages", passages(READ_BY_MODEL)),
        migrations.AddField("cell", "passages", passages(READ_LAST)),
        migrations.AlterField(
            "promptflag",
            "reason",
            models.CharField(
                choices=[
                    ("unclear", "unclear"),
                    ("sensitive", "sensitive or personal"),
                    ("harmful", "asks for harm"),
                    ("duplicate", "like another prompt"),
                    ("unsupported", "an answer its passages do not support"),
                    ("other", "something else"),
                ],
                max_length=12,
            ),
        ),
        migrations.RunPython(cut_documents, migrations.RunPython.noop, elidable=True),
    ]
