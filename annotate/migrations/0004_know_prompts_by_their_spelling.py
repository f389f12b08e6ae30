import hashlib
import json
import unicodedata

from django.db import migrations
from django.db.models import Q, TextField
from django.db.models.functions import Cast

CANONICAL = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def key_of(messages):
    """The hash with lines that end in LF and characters composed (NFC)."""
    spelled = [
        each
        | {
            "content": unicodedata.normalize(
                "NFC", each["content"].replace("\r\n", "\n").replace("\r", "\n")
            )
        }
        for each in messages
    ]
    return hashlib.sha256(CANONICAL.encode(spelled).encode()).hexdigest()


def split_of(digest):
    bucket = int(digest[:8], 16) % 100
    return "train" if bucket < 80 else "validation" if bucket < 90 else "test"


def know_by_spelling(apps, schema_editor):
    """Of prompts that are one by their key the first has it as its hash; the others keep theirs,
    and are in the same split."""
    prompts = apps.get_model("annotate", "Prompt").objects
    written = prompts.annotate(written=Cast("messages", TextField()))
    odd = written.filter(Q(written__contains=r"\r") | Q(written__regex=r"[^\x01-\x7f]"))
    fields = ("pk", "project", "messages", "content_hash", "split_key")
    for pk, project, messages, digest, split_key in odd.order_by("pk").values_list(*fields).iterator():
        key = key_of(messages)
        if key == digest:
            continue
        changes = {} if split_key else {"split": split_of(key)}
        if not prompts.filter(project=project, content_hash=key).exists():
            changes["content_hash"] = key
        if changes:
            prompts.filter(pk=pk).update(**changes)


class Migration(migrations.Migration):
    dependencies = [("annotate", "0003_choose_how_a_file_is_read")]

    operations = [migrations.RunPython(know_by_spelling, migrations.RunPython.noop)]
