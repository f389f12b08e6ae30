from django.db import migrations

POLICIES = """
UPDATE annotate_demonstration AS demonstration
SET distilled_from_id = (run.config -> 'policies' ->> 0)::bigint
FROM rlhf_run AS run
WHERE run.kind = 'sample' AND demonstration.source = 'distilled by run ' || run.id
"""


class Migration(migrations.Migration):

    dependencies = [
        ('annotate', '0017_name_the_policy_behind_distilled_answers'),
        ('rlhf', '0012_remember_the_guests_of_a_snapshot'),
    ]

    operations = [migrations.RunSQL(POLICIES, migrations.RunSQL.noop)]
