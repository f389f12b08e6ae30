import datetime
import django.core.validators
import django.db.models.deletion
import rlhf.models.suites
from django.conf import settings
from django.db import migrations, models


TABLES = ("rlhf_metric", "rlhf_sample", "rlhf_checkpoint")

# FOR SHARE holds the run's row until the writer commits: nobody takes the run over in between.
FUNCTION = """
CREATE FUNCTION rlhf_require_lease() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM rlhf_run WHERE id = NEW.run_id AND lease_token = NEW.lease_token FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run % was taken over: lease % may no longer write', NEW.run_id,
            NEW.lease_token USING ERRCODE = 'RL001';
    END IF;
    RETURN NEW;
END $$;
"""
TRIGGER = """
CREATE TRIGGER require_lease BEFORE INSERT OR UPDATE ON {table}
    FOR EACH ROW EXECUTE FUNCTION rlhf_require_lease();
"""


class Migration(migrations.Migration):

    initial = True

    replaces = [
        ('rlhf', '0001_initial'),
        ('rlhf', '0002_add_lease_token_to_what_workers_write'),
        ('rlhf', '0003_store_the_filters_of_a_round'),
        ('rlhf', '0004_line_up_runs_by_priority_and_machine'),
        ('rlhf', '0005_let_people_withdraw_their_data'),
        ('rlhf', '0006_keep_what_the_gate_saw'),
        ('rlhf', '0007_train_from_documents_rankings_and_thumbs'),
        ('rlhf', '0008_judge_behaviour_by_suites_and_set_the_gate'),
        ('rlhf', '0009_decide_about_challengers'),
        ('rlhf', '0010_keep_peoples_agreement_with_the_snapshot'),
        ('rlhf', '0011_remove_the_files_of_models_to_make_room'),
        ('rlhf', '0012_remember_the_guests_of_a_snapshot'),
        ('rlhf', '0013_trace_distilled_answers_to_their_policy'),
        ('rlhf', '0014_keep_the_alarms_of_a_run'),
        ('rlhf', '0015_drop_the_state_draft'),
        ('rlhf', '0016_count_the_work_of_a_run_without_the_waiting'),
        ('rlhf', '0017_leave_withdrawals_to_annotate'),
        ('rlhf', '0018_keep_the_models_of_epochs'),
    ]

    dependencies = [
        ('annotate', '0001_first_release'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Checkpoint',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('lease_token', models.PositiveIntegerField(default=0)),
                ('step', models.PositiveIntegerField()),
                ('folder', models.CharField(help_text='Relative to DATA_DIR.', max_length=300)),
                ('manifest_sha256', models.CharField(max_length=64)),
                ('is_final', models.BooleanField(default=False, help_text='A published model, not a save.')),
                ('epoch', models.PositiveSmallIntegerField(help_text='Published on the way, after so many passes over the demonstrations.', null=True)),
                ('is_kept', models.BooleanField(default=False, help_text='An operator wants its files to stay.')),
                ('removed_at', models.DateTimeField(help_text='When the files of a published model went, to make room.', null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'ordering': ['-step'],
            },
        ),
        migrations.CreateModel(
            name='Document',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('text', models.TextField()),
                ('source', models.CharField(blank=True, max_length=100)),
                ('content_hash', models.CharField(max_length=64)),
                ('split', models.CharField(choices=[('train', 'Train'), ('validation', 'Validation'), ('test', 'Test')], max_length=10)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='documents', to='annotate.project')),
            ],
            options={
                'ordering': ['id'],
            },
        ),
        migrations.CreateModel(
            name='GateLimits',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kl', models.FloatField(default=25.0, help_text='Nats an answer that PPO may have gone from where it began.', validators=[django.core.validators.MinValueValidator(0.0)], verbose_name='KL')),
                ('length', models.FloatField(default=1.5, help_text="Times the live policy's mean answer.", validators=[django.core.validators.MinValueValidator(0.1)], verbose_name='Length')),
                ('prompts', models.PositiveSmallIntegerField(default=5, help_text='On which people have compared it with the live policy.', validators=[django.core.validators.MinValueValidator(5)], verbose_name='Fewest prompts')),
                ('project', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='gate_limits', to='annotate.project')),
            ],
        ),
        migrations.CreateModel(
            name='Promotion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('act', models.CharField(choices=[('promote', 'promoted'), ('challenge', 'made the challenger'), ('reject', 'rejected')], default='promote', max_length=10)),
                ('is_rollback', models.BooleanField(default=False)),
                ('reason', models.CharField(max_length=500)),
                ('conditions', models.JSONField(default=list, help_text='What the gate saw; see rlhf.registry.gate.')),
                ('override', models.CharField(blank=True, help_text='Why it was promoted although the gate was shut.', max_length=500)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('decided_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='promotions', to=settings.AUTH_USER_MODEL)),
                ('policy', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='promotions', to='annotate.policy')),
                ('previous', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='annotate.policy')),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='promotions', to='annotate.project')),
            ],
            options={
                'ordering': ['-id'],
            },
        ),
        migrations.CreateModel(
            name='RewardModel',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('accuracy', models.FloatField(help_text='On held-out comparisons, 0 to 1.', null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('checkpoint', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='reward_model', to='rlhf.checkpoint')),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='reward_models', to='annotate.project')),
            ],
            options={
                'ordering': ['-id'],
            },
        ),
        migrations.CreateModel(
            name='Round',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveIntegerField()),
                ('recipe', models.CharField(max_length=10)),
                ('note', models.CharField(blank=True, max_length=300)),
                ('filters', models.JSONField(default=dict, help_text='Which labels it learns from; see rlhf.data.selection.')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('base', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='rounds_from_it', to='annotate.policy')),
                ('launched_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='rounds', to=settings.AUTH_USER_MODEL)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='rounds', to='annotate.project')),
            ],
            options={
                'ordering': ['-number'],
            },
        ),
        migrations.CreateModel(
            name='Run',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('sample', 'Sample'), ('pretrain', 'pre-training'), ('sft', 'SFT'), ('reward', 'reward model'), ('ppo', 'PPO'), ('dpo', 'DPO'), ('kto', 'KTO'), ('evaluate', 'evaluation'), ('scorecard', 'Scorecard')], max_length=10)),
                ('position', models.PositiveSmallIntegerField(default=0, help_text='Within a round: a run starts when those before it have succeeded.')),
                ('config', models.JSONField(default=dict, help_text="The operator's choice; see learning.config.")),
                ('seed', models.BigIntegerField(default=0)),
                ('state', models.CharField(choices=[('queued', 'Queued'), ('running', 'Running'), ('succeeded', 'Succeeded'), ('failed', 'Failed'), ('cancelled', 'Cancelled'), ('paused', 'Paused')], default='queued', max_length=10)),
                ('reason', models.TextField(blank=True, help_text='Why it is paused, failed or cancelled.')),
                ('log_tail', models.TextField(blank=True)),
                ('step', models.PositiveIntegerField(default=0)),
                ('total_steps', models.PositiveIntegerField(default=0)),
                ('summary', models.JSONField(default=dict, help_text='The figures it ended with.')),
                ('priority', models.SmallIntegerField(default=0, help_text='The higher, the earlier.')),
                ('pinned_to', models.CharField(blank=True, help_text='The host, or host/gpu, that has to do it.', max_length=100)),
                ('retries', models.JSONField(default=list, help_text='What was changed before it was tried again: [{why, changes}].')),
                ('alarms', models.JSONField(default=dict, help_text='What rang: {name: [first step, last step]}; see rlhf.runs.alarms.')),
                ('cancel_requested', models.BooleanField(default=False)),
                ('lease_token', models.PositiveIntegerField(default=0)),
                ('leased_until', models.DateTimeField(null=True)),
                ('worker', models.CharField(blank=True, max_length=100)),
                ('slot', models.CharField(blank=True, help_text='The host/gpu it works on: one run at a time on each.', max_length=100)),
                ('attempts_without_progress', models.PositiveSmallIntegerField(default=0)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('started_at', models.DateTimeField(null=True)),
                ('taken_at', models.DateTimeField(help_text='When the present attempt began.', null=True)),
                ('worked', models.DurationField(default=datetime.timedelta, help_text='How long the attempts before it took, without the waiting.')),
                ('ended_at', models.DateTimeField(null=True)),
                ('launched_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='runs', to=settings.AUTH_USER_MODEL)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='runs', to='annotate.project')),
                ('round', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='runs', to='rlhf.round')),
            ],
            options={
                'ordering': ['id'],
            },
        ),
        migrations.CreateModel(
            name='Metric',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('lease_token', models.PositiveIntegerField(default=0)),
                ('step', models.PositiveIntegerField()),
                ('split', models.CharField(max_length=10)),
                ('values', models.JSONField()),
                ('time', models.DateTimeField()),
                ('run', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='metrics', to='rlhf.run')),
            ],
            options={
                'ordering': ['step', 'id'],
            },
        ),
        migrations.CreateModel(
            name='Evaluation',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('judge', models.CharField(choices=[('reward_model', 'reward model'), ('gold', 'stated measure')], max_length=20)),
                ('wins', models.PositiveIntegerField()),
                ('losses', models.PositiveIntegerField()),
                ('ties', models.PositiveIntegerField(default=0)),
                ('win_rate', models.FloatField(help_text='Wins plus half the ties, over all.')),
                ('low', models.FloatField(help_text='Lower end of the 95 % interval.')),
                ('high', models.FloatField(help_text='Upper end of the 95 % interval.')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('opponent', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='annotate.policy')),
                ('policy', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='evaluations', to='annotate.policy')),
                ('round', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='evaluations', to='rlhf.round')),
                ('run', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='evaluations', to='rlhf.run')),
            ],
            options={
                'ordering': ['id'],
            },
        ),
        migrations.AddField(
            model_name='checkpoint',
            name='run',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='checkpoints', to='rlhf.run'),
        ),
        migrations.CreateModel(
            name='Sample',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('lease_token', models.PositiveIntegerField(default=0)),
                ('step', models.PositiveIntegerField()),
                ('text', models.TextField()),
                ('score', models.FloatField(null=True)),
                ('kl', models.FloatField(null=True)),
                ('prompt', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='annotate.prompt')),
                ('run', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='samples', to='rlhf.run')),
            ],
            options={
                'ordering': ['step', 'prompt_id'],
            },
        ),
        migrations.CreateModel(
            name='Snapshot',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('sha256', models.CharField(max_length=64)),
                ('counts', models.JSONField(help_text='Lines of each data file.')),
                ('filters', models.JSONField(default=dict)),
                ('agreement', models.FloatField(help_text='How often the people in its rankings prefer the same, 0 to 1.', null=True)),
                ('frozen_at', models.DateTimeField(auto_now_add=True)),
                ('demonstrations', models.ManyToManyField(related_name='snapshots', to='annotate.demonstration')),
                ('documents', models.ManyToManyField(related_name='snapshots', to='rlhf.document')),
                ('feedback', models.ManyToManyField(related_name='snapshots', to='annotate.feedback')),
                ('guests', models.ManyToManyField(help_text='Who asked or judged in the chat; they may delete it.', related_name='+', to=settings.AUTH_USER_MODEL)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='snapshots', to='annotate.project')),
                ('prompts', models.ManyToManyField(related_name='snapshots', to='annotate.prompt')),
                ('rankings', models.ManyToManyField(related_name='snapshots', to='annotate.ranking')),
                ('run', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='snapshot', to='rlhf.run')),
            ],
            options={
                'ordering': ['-id'],
            },
        ),
        migrations.CreateModel(
            name='Suite',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=60)),
                ('lines', models.TextField(blank=True, help_text='See rlhf.models.probes.', validators=[rlhf.models.suites.check_lines])),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='suites', to='annotate.project')),
            ],
            options={
                'ordering': ['name'],
            },
        ),
        migrations.CreateModel(
            name='SuiteResult',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('lease_token', models.PositiveIntegerField(default=0)),
                ('suite', models.CharField(max_length=60)),
                ('suite_hash', models.CharField(max_length=64)),
                ('passed', models.PositiveSmallIntegerField()),
                ('probes', models.PositiveSmallIntegerField()),
                ('failures', models.JSONField(default=list, help_text='[{prompts, answers, check}]')),
                ('policy', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='suite_results', to='annotate.policy')),
                ('run', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='suite_results', to='rlhf.run')),
            ],
            options={
                'ordering': ['id'],
            },
        ),
        migrations.CreateModel(
            name='TrainedPolicy',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('checkpoint', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='trained_policy', to='rlhf.checkpoint')),
                ('policy', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='training', to='annotate.policy')),
            ],
        ),
        migrations.AddConstraint(
            model_name='document',
            constraint=models.UniqueConstraint(fields=('project', 'content_hash'), name='one_document_a_content'),
        ),
        migrations.AddConstraint(
            model_name='round',
            constraint=models.UniqueConstraint(fields=('project', 'number'), name='one_round_a_number'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(condition=models.Q(('state__in', ['queued', 'running'])), fields=['id'], name='runs_to_look_after'),
        ),
        migrations.AddConstraint(
            model_name='run',
            constraint=models.UniqueConstraint(fields=('round', 'position'), name='one_run_a_position'),
        ),
        migrations.AddConstraint(
            model_name='metric',
            constraint=models.UniqueConstraint(fields=('run', 'split', 'step'), name='one_metric_row_a_step'),
        ),
        migrations.AddConstraint(
            model_name='evaluation',
            constraint=models.CheckConstraint(condition=models.Q(('policy', models.F('opponent')), _negated=True), name='two_policies'),
        ),
        migrations.AddConstraint(
            model_name='checkpoint',
            constraint=models.UniqueConstraint(fields=('run', 'folder'), name='one_checkpoint_a_folder'),
        ),
        migrations.AddConstraint(
            model_name='sample',
            constraint=models.UniqueConstraint(fields=('run', 'step', 'prompt'), name='one_sample_a_step'),
        ),
        migrations.AddConstraint(
            model_name='suite',
            constraint=models.UniqueConstraint(fields=('project', 'name'), name='one_suite_a_name'),
        ),
        migrations.AddConstraint(
            model_name='suiteresult',
            constraint=models.UniqueConstraint(fields=('run', 'policy', 'suite'), name='one_result_a_suite_and_policy'),
        ),
        migrations.AddConstraint(
            model_name='suiteresult',
            constraint=models.CheckConstraint(condition=models.Q(('passed__lte', models.F('probes'))), name='no_more_passed_than_asked'),
        ),
        migrations.RunSQL(FUNCTION, "DROP FUNCTION rlhf_require_lease()"),
        *(
            migrations.RunSQL(
                TRIGGER.format(table=table), f"DROP TRIGGER require_lease ON {table}"
            )
            for table in TABLES
        ),
    ]
