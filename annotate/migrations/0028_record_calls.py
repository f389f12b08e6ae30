import django.core.validators
import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


# What the chat and the API answered before there was a ledger. What it cost nobody wrote down.
CALLS_SO_FAR = """
INSERT INTO annotate_call
    (project_id, policy_id, use, outcome, at, tokens_in, tokens_out, first_ms, total_ms)
SELECT conversation.project_id, message.policy_id,
    CASE WHEN conversation.via_api THEN 'gateway' ELSE 'chat' END,
    CASE message.state WHEN 'done' THEN 'answered' ELSE message.state END,
    message.created_at, message.prompt_tokens, message.completion_tokens,
    message.first_token_ms, message.total_ms
FROM annotate_message AS message
JOIN annotate_conversation AS conversation ON conversation.id = message.conversation_id
WHERE message.role = 'assistant' AND message.policy_id IS NOT NULL
    AND message.total_ms IS NOT NULL AND message.state IN ('done', 'stopped', 'failed')
ORDER BY message.id
"""


class Migration(migrations.Migration):

    dependencies = [
        ('annotate', '0027_keep_accounts_safe'),
    ]

    operations = [
        migrations.AddField(
            model_name='project',
            name='currency',
            field=models.CharField(blank=True, db_default='', default='', help_text='Three letters, like EUR: what all prices here are in.', max_length=3, validators=[django.core.validators.RegexValidator('^[A-Z]{3}$', 'Enter three capital letters, like EUR.')]),
        ),
        migrations.AddField(
            model_name='project',
            name='machine_price',
            field=models.DecimalField(blank=True, decimal_places=4, help_text='What an hour of the machine costs that trains models and answers with them.', max_digits=10, null=True, validators=[django.core.validators.MinValueValidator(0)]),
        ),
        migrations.AddField(
            model_name='project',
            name='wage',
            field=models.DecimalField(blank=True, decimal_places=4, help_text='What an hour of labeling costs.', max_digits=10, null=True, validators=[django.core.validators.MinValueValidator(0)]),
        ),
        migrations.CreateModel(
            name='Call',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('use', models.CharField(choices=[('chat', 'Chat'), ('gateway', 'API'), ('talk', 'talks with labelers'), ('grid', 'playground'), ('sampling', 'sampling, comparisons and suites'), ('drafts', 'drafts to rank'), ('judge', 'judging'), ('other', 'Other')], max_length=10)),
                ('outcome', models.CharField(choices=[('answered', 'Answered'), ('stopped', 'Stopped'), ('failed', 'Failed')], max_length=10)),
                ('at', models.DateTimeField(default=django.utils.timezone.now, help_text='When it ended.')),
                ('tokens_in', models.PositiveIntegerField(help_text='As the server counts.', null=True)),
                ('tokens_out', models.PositiveIntegerField(null=True)),
                ('first_ms', models.PositiveIntegerField(null=True, verbose_name='milliseconds to the first token')),
                ('total_ms', models.PositiveIntegerField(null=True, verbose_name='milliseconds')),
                ('price', models.DecimalField(decimal_places=8, help_text='None: it was not known.', max_digits=14, null=True)),
                ('run', models.PositiveBigIntegerField(help_text='The run that asked, if one did.', null=True)),
                ('policy', models.ForeignKey(help_text='None: words of the playground that are not saved as a policy.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='calls', to='annotate.policy')),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='calls', to='annotate.project')),
            ],
            options={
                'ordering': ['id'],
                'indexes': [models.Index(fields=['project', 'at'], name='calls_of_a_period'), models.Index(condition=models.Q(('run__isnull', False)), fields=['project', 'run'], name='calls_of_a_run')],
            },
        ),
        migrations.RunSQL(CALLS_SO_FAR, migrations.RunSQL.noop, elidable=True),
    ]
