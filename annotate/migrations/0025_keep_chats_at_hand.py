import django.db.models.deletion
from django.db import migrations, models

from annotate.prompts.search import fold

# Until now questions followed each other in the order of their numbers.
FOLLOW = """
UPDATE annotate_message AS message SET follows_id = previous.id FROM (
    SELECT id AS question, lag(id) OVER (PARTITION BY conversation_id ORDER BY id) AS id
    FROM annotate_message WHERE role = 'user'
) AS previous
WHERE message.id = previous.question AND previous.id IS NOT NULL
"""


def fold_chats(apps, _schema_editor):
    Conversation = apps.get_model("annotate", "Conversation")
    for chat in Conversation.objects.filter(via_api=False).iterator():
        texts = chat.messages.order_by("id").values_list("text", flat=True)
        folded = "\n".join(map(fold, [chat.title, *texts]))
        Conversation.objects.filter(pk=chat.pk).update(folded=folded)


class Migration(migrations.Migration):
    dependencies = [("annotate", "0024_keep_history")]

    operations = [
        migrations.AddField(
            "conversation",
            "folded",
            models.TextField(
                db_default="",
                editable=False,
                help_text="Title and texts, for search; of a guest's chat.",
            ),
        ),
        migrations.AddField(
            "message",
            "follows",
            models.ForeignKey(
                help_text="Of a question, the one before it. Those that follow the same are "
                "versions.",
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="followed_by",
                to="annotate.message",
            ),
        ),
        migrations.AddField(
            "message",
            "left_out",
            models.PositiveIntegerField(
                db_default=0,
                default=0,
                help_text="Earlier messages of the chat that no longer fit.",
            ),
        ),
        migrations.CreateModel(
            "Share",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("sha256", models.CharField(editable=False, max_length=64, unique=True)),
                ("shown", models.JSONField(help_text="The ids of the messages, in their order.")),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("expires_at", models.DateTimeField()),
                (
                    "conversation",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="shares",
                        to="annotate.conversation",
                    ),
                ),
            ],
            options={"ordering": ["-id"]},
        ),
        migrations.RunSQL(FOLLOW, migrations.RunSQL.noop, elidable=True),
        migrations.RunPython(fold_chats, migrations.RunPython.noop, elidable=True),
    ]
