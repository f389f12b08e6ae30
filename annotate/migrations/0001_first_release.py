import annotate.prompts.models
import django.contrib.auth.models
import django.contrib.auth.validators
import django.contrib.postgres.fields
import django.contrib.postgres.indexes
import django.contrib.postgres.search
import django.core.validators
import django.db.models.deletion
import django.db.models.functions.comparison
import django.db.models.functions.text
import django.utils.timezone
import uuid
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    replaces = [
        ('annotate', '0001_initial'),
        ('annotate', '0002_stream_chats_and_issue_api_tokens'),
        ('annotate', '0003_give_an_assignment_one_label'),
        ('annotate', '0004_find_prompts_by_word_and_tag'),
        ('annotate', '0005_try_ways_of_prompting_side_by_side'),
        ('annotate', '0006_keep_reviews_apart_from_labels'),
        ('annotate', '0007_measure_labelers_by_gold'),
        ('annotate', '0008_exclude_labelers_from_snapshots'),
        ('annotate', '0009_have_each_guideline_version_acknowledged'),
        ('annotate', '0010_let_a_challenger_answer_a_share'),
        ('annotate', '0011_hold_back_thumbs_of_new_guests_and_split_by_guest'),
        ('annotate', '0012_take_prompts_of_labelers'),
        ('annotate', '0013_let_labelers_flag_prompts'),
        ('annotate', '0014_keep_a_file_while_it_is_looked_at'),
        ('annotate', '0015_say_how_long_answers_may_be_corrected'),
        ('annotate', '0016_compare_prompts_by_spelling'),
        ('annotate', '0017_name_the_policy_behind_distilled_answers'),
        ('annotate', '0018_keep_prompts_that_are_being_written'),
        ('annotate', '0019_keep_withdrawals_beside_people'),
    ]

    dependencies = [
        ('auth', '0012_alter_user_first_name_max_length'),
    ]

    operations = [
        migrations.CreateModel(
            name='Completion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('text', models.TextField()),
                ('text_hash', models.CharField(editable=False, max_length=64)),
                ('source', models.CharField(choices=[('sampled', 'Sampled'), ('imported', 'Imported'), ('chat', 'Chat'), ('evaluation', 'Evaluation')], max_length=10)),
                ('seed', models.BigIntegerField(null=True)),
                ('sampling', models.JSONField(default=dict, help_text='Parameters the text was sampled with.')),
                ('template_hash', models.CharField(blank=True, max_length=64)),
                ('finish_reason', models.CharField(blank=True, max_length=20)),
                ('score', models.FloatField(help_text='What the reward model of its run said of it.', null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'ordering': ['id'],
            },
        ),
        migrations.CreateModel(
            name='Project',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=100)),
                ('slug', models.SlugField(unique=True)),
                ('ranking_size', models.PositiveSmallIntegerField(default=4, help_text='Completions shown in one ranking, 2 to 9.', validators=[django.core.validators.MinValueValidator(2), django.core.validators.MaxValueValidator(9)])),
                ('overlap', models.PositiveSmallIntegerField(default=1, help_text='How many people answer each task.', validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(16)])),
                ('rate_before_ranking', models.BooleanField(default=True, help_text='Ask for a rating from 1 to 7 beside the order.')),
                ('write_lease_minutes', models.PositiveSmallIntegerField(default=30, help_text='How long a writing task stays with one person; a draft saved renews it.', validators=[django.core.validators.MinValueValidator(1)])),
                ('rank_lease_minutes', models.PositiveSmallIntegerField(default=15, help_text='How long a ranking or review task stays with one person; likewise.', validators=[django.core.validators.MinValueValidator(1)])),
                ('edit_minutes', models.PositiveSmallIntegerField(db_default=120, default=120, help_text='How long an answer may be corrected once it is submitted; 0: not at all.', validators=[django.core.validators.MaxValueValidator(10080)])),
                ('random_review_percent', models.PositiveSmallIntegerField(default=5, help_text='Of the answered tasks, so many are reviewed without a reason.', validators=[django.core.validators.MaxValueValidator(100)])),
                ('low_agreement_percent', models.PositiveSmallIntegerField(default=60, help_text='A task whose labelers agree less than this is reviewed.', validators=[django.core.validators.MaxValueValidator(100)])),
                ('too_fast_percent', models.PositiveSmallIntegerField(default=25, help_text='Answers that took less than this share of the median time are reviewed.', validators=[django.core.validators.MaxValueValidator(100)])),
                ('review_flags', models.BooleanField(default=True, help_text='Review what a labeler flagged or called all bad.')),
                ('new_writer_reviews', models.PositiveSmallIntegerField(default=3, help_text="A writer's answers are reviewed until so many score 6 or more on average.", validators=[django.core.validators.MaxValueValidator(20)])),
                ('qualification_tasks', models.PositiveSmallIntegerField(default=10, help_text="Gold tasks before a new labeler's work, once there are so many; 0: none.", validators=[django.core.validators.MaxValueValidator(20)])),
                ('qualification_percent', models.PositiveSmallIntegerField(default=75, help_text='Agreement with the gold at which a labeler qualifies.', validators=[django.core.validators.MaxValueValidator(100)])),
                ('gold_every', models.PositiveSmallIntegerField(default=20, help_text='One ranking task in so many is hidden gold; 0: none.')),
                ('own_prompts', models.CharField(choices=[('none', 'nobody writes any'), ('reviewed', 'an operator accepts them first'), ('direct', 'they are in use at once')], db_default='none', default='none', help_text='What becomes of prompts that labelers think of themselves.', max_length=10)),
                ('use_cases', models.TextField(blank=True, db_default='', default='', help_text='What labelers write prompts for, one a line; a prompt gets its line as a tag.', max_length=5000)),
                ('challenger_percent', models.PositiveSmallIntegerField(default=10, help_text='Of the chats, so many are answered by the challenger, if there is one.', validators=[django.core.validators.MaxValueValidator(100)])),
                ('new_guest_days', models.PositiveSmallIntegerField(default=7, help_text='Thumbs of guests whose account is younger train only once a reviewer has looked at them; 0: all train.')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'ordering': ['name'],
            },
        ),
        migrations.CreateModel(
            name='User',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('password', models.CharField(max_length=128, verbose_name='password')),
                ('last_login', models.DateTimeField(blank=True, null=True, verbose_name='last login')),
                ('is_superuser', models.BooleanField(default=False, help_text='Designates that this user has all permissions without explicitly assigning them.', verbose_name='superuser status')),
                ('username', models.CharField(error_messages={'unique': 'A user with that username already exists.'}, help_text='Required. 150 characters or fewer. Letters, digits and @/./+/-/_ only.', max_length=150, unique=True, validators=[django.contrib.auth.validators.UnicodeUsernameValidator()], verbose_name='username')),
                ('first_name', models.CharField(blank=True, max_length=150, verbose_name='first name')),
                ('last_name', models.CharField(blank=True, max_length=150, verbose_name='last name')),
                ('email', models.EmailField(blank=True, max_length=254, verbose_name='email address')),
                ('is_staff', models.BooleanField(default=False, help_text='Designates whether the user can log into this admin site.', verbose_name='staff status')),
                ('is_active', models.BooleanField(default=True, help_text='Designates whether this user should be treated as active. Unselect this instead of deleting accounts.', verbose_name='active')),
                ('date_joined', models.DateTimeField(default=django.utils.timezone.now, verbose_name='date joined')),
                ('is_simulated', models.BooleanField(default=False)),
                ('groups', models.ManyToManyField(blank=True, help_text='The groups this user belongs to. A user will get all permissions granted to each of their groups.', related_name='user_set', related_query_name='user', to='auth.group', verbose_name='groups')),
                ('user_permissions', models.ManyToManyField(blank=True, help_text='Specific permissions for this user.', related_name='user_set', related_query_name='user', to='auth.permission', verbose_name='user permissions')),
            ],
            options={
                'verbose_name': 'user',
                'verbose_name_plural': 'users',
                'abstract': False,
            },
            managers=[
                ('objects', django.contrib.auth.models.UserManager()),
            ],
        ),
        migrations.CreateModel(
            name='Assignment',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('state', models.CharField(choices=[('leased', 'Leased'), ('submitted', 'Submitted'), ('skipped', 'Skipped')], default='leased', max_length=10)),
                ('leased_until', models.DateTimeField()),
                ('shown_order', models.JSONField(default=list, help_text='Completion ids in the order this labeler sees them.')),
                ('guideline_version', models.PositiveIntegerField(null=True)),
                ('draft', models.JSONField(default=dict)),
                ('drafted_at', models.DateTimeField(null=True)),
                ('trial', models.CharField(blank=True, choices=[('practice', 'Practice'), ('qualification', 'Qualification'), ('hidden', 'Hidden')], db_default='', max_length=15)),
                ('active_seconds', models.PositiveIntegerField(default=0)),
                ('skip_reason', models.CharField(blank=True, choices=[('unclear', 'The prompt is unclear'), ('knowledge', 'Outside my knowledge'), ('unsafe', 'Unsafe to answer'), ('personal', 'Contains personal data'), ('cannot_judge', 'I cannot judge these'), ('other', 'Something else')], max_length=20)),
                ('skip_note', models.CharField(blank=True, max_length=500)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('ended_at', models.DateTimeField(null=True)),
                ('labeler', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='assignments', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['id'],
            },
        ),
        migrations.CreateModel(
            name='Conversation',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('title', models.CharField(blank=True, max_length=100)),
                ('via_api', models.BooleanField(default=False, help_text='An exchange of a product outside.')),
                ('improves_model', models.BooleanField(default=True, help_text="The guest's switch “use this chat to improve the model”. Off: nothing of it leaves the chat tables.")),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('guest', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='conversations', to=settings.AUTH_USER_MODEL)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='conversations', to='annotate.project')),
            ],
            options={
                'ordering': ['-id'],
            },
        ),
        migrations.CreateModel(
            name='Grid',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('prompts', models.JSONField(help_text='One text a row.')),
                ('columns', models.JSONField(help_text='See Column.')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('author', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='grids', to='annotate.project')),
            ],
            options={
                'ordering': ['-id'],
            },
        ),
        migrations.CreateModel(
            name='Policy',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=100)),
                ('description', models.CharField(blank=True, max_length=300)),
                ('state', models.CharField(choices=[('candidate', 'Candidate'), ('challenger', 'Challenger'), ('live', 'Live'), ('retired', 'Retired'), ('rejected', 'Rejected')], default='candidate', max_length=10)),
                ('origin', models.CharField(choices=[('base', 'base model'), ('prompted', 'Prompted'), ('trained', 'Trained'), ('external', 'outputs imported from elsewhere')], max_length=10)),
                ('folder', models.CharField(blank=True, help_text='Model folder, relative to DATA_DIR.', max_length=300)),
                ('endpoint', models.URLField(blank=True, help_text='An OpenAI-compatible server of its own.')),
                ('model_name', models.CharField(blank=True, max_length=200)),
                ('system_prompt', models.TextField(blank=True)),
                ('few_shot', models.JSONField(blank=True, default=list, validators=[annotate.prompts.models.validate_turns])),
                ('prompt_format', models.TextField(blank=True, help_text='What is sent instead of the last user message, with {prompt} in its place.', validators=[annotate.prompts.models.validate_prompt_format])),
                ('temperature', models.FloatField(default=0.7, validators=[django.core.validators.MinValueValidator(0.0), django.core.validators.MaxValueValidator(2.0)])),
                ('max_new_tokens', models.PositiveIntegerField(default=256, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(4096)])),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('parent', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='children', to='annotate.policy')),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='policies', to='annotate.project')),
            ],
            options={
                'verbose_name_plural': 'policies',
                'ordering': ['-id'],
            },
        ),
        migrations.CreateModel(
            name='Message',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('public_id', models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ('role', models.CharField(choices=[('user', 'User'), ('assistant', 'Assistant')], max_length=10)),
                ('text', models.TextField(blank=True)),
                ('state', models.CharField(choices=[('streaming', 'Streaming'), ('done', 'Done'), ('stopped', 'stopped by the guest'), ('failed', 'Failed')], default='done', max_length=10)),
                ('failure', models.CharField(blank=True, help_text='Why it failed.', max_length=300)),
                ('template_hash', models.CharField(blank=True, max_length=64)),
                ('asked', models.JSONField(default=list, help_text="The conversation it answers: without the policy's own prompt.")),
                ('context', models.JSONField(default=list, help_text='The messages the model was given.')),
                ('sampling', models.JSONField(default=dict)),
                ('finish_reason', models.CharField(blank=True, max_length=20)),
                ('first_token_ms', models.PositiveIntegerField(null=True)),
                ('total_ms', models.PositiveIntegerField(null=True)),
                ('heard_at', models.DateTimeField(help_text='The last sign of life of the process that writes the answer.', null=True)),
                ('shown_at', models.DateTimeField(default=django.utils.timezone.now, help_text='Of several drafts, the one shown last goes on.')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('answers', models.ForeignKey(help_text="The user's turn.", null=True, on_delete=django.db.models.deletion.CASCADE, related_name='drafts', to='annotate.message')),
                ('completion', models.OneToOneField(help_text="Set once the answer has become part of the project's data.", null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='message', to='annotate.completion')),
                ('conversation', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='messages', to='annotate.conversation')),
                ('policy', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='messages', to='annotate.policy')),
            ],
            options={
                'ordering': ['id'],
            },
        ),
        migrations.AddField(
            model_name='completion',
            name='policy',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='completions', to='annotate.policy'),
        ),
        migrations.CreateModel(
            name='Membership',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('role', models.CharField(choices=[('labeler', 'Labeler'), ('reviewer', 'Reviewer'), ('operator', 'Operator'), ('guest', 'Guest')], max_length=10)),
                ('state', models.CharField(choices=[('active', 'Active'), ('paused', 'Paused')], default='active', max_length=10)),
                ('qualified_at', models.DateTimeField(null=True)),
                ('requalify_since', models.DateTimeField(null=True)),
                ('guideline_read', models.PositiveIntegerField(db_default=0, default=0, help_text='The guideline version this member has acknowledged.')),
                ('excluded_at', models.DateTimeField(help_text="Since when no new snapshot takes this labeler's labels.", null=True)),
                ('vouched_at', models.DateTimeField(help_text="Since when a new guest's thumbs may train: a reviewer has looked.", null=True)),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='memberships', to=settings.AUTH_USER_MODEL)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='memberships', to='annotate.project')),
            ],
        ),
        migrations.CreateModel(
            name='Guideline',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('version', models.PositiveIntegerField()),
                ('text', models.TextField(help_text='Markdown.')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('author', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='guidelines', to='annotate.project')),
            ],
        ),
        migrations.CreateModel(
            name='ApiToken',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(blank=True, max_length=100)),
                ('prefix', models.CharField(editable=False, max_length=12)),
                ('sha256', models.CharField(editable=False, max_length=64, unique=True)),
                ('scopes', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(choices=[('chat', 'ask the live policy'), ('feedback', 'give thumbs'), ('read', 'list policies')], max_length=10), size=None)),
                ('expires_at', models.DateTimeField(null=True)),
                ('revoked_at', models.DateTimeField(null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='api_tokens', to=settings.AUTH_USER_MODEL)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='api_tokens', to='annotate.project')),
            ],
            options={
                'ordering': ['-id'],
            },
        ),
        migrations.CreateModel(
            name='Prompt',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('messages', models.JSONField(validators=[annotate.prompts.models.validate_messages])),
                ('text', models.TextField(editable=False, help_text='The last user message, for search.')),
                ('content_hash', models.CharField(editable=False, max_length=64)),
                ('split', models.CharField(choices=[('train', 'Train'), ('validation', 'Validation'), ('test', 'Test')], editable=False, max_length=10)),
                ('split_key', models.CharField(blank=True, db_default='', default='', editable=False, help_text="A hash that decides the split instead of the content's: of the guest who asked, or of the few-shot group.", max_length=64)),
                ('source', models.CharField(blank=True, max_length=100)),
                ('tags', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=50), blank=True, default=list, size=None)),
                ('kind', models.CharField(blank=True, choices=[('plain', 'plain'), ('few_shot', 'few-shot'), ('use_case', 'for a use case')], db_default='', default='', help_text="Of a labeler's prompt.", max_length=10)),
                ('awaits_review', models.BooleanField(db_default=False, default=False, editable=False)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('archived_at', models.DateTimeField(editable=False, help_text='Put out of use.', null=True)),
                ('search', models.GeneratedField(db_persist=True, expression=django.contrib.postgres.search.SearchVector('text', config='english'), output_field=django.contrib.postgres.search.SearchVectorField())),
                ('spelling', models.GeneratedField(db_persist=True, expression=django.db.models.functions.text.MD5(models.Func(django.db.models.functions.text.Lower(django.db.models.functions.text.Replace(django.db.models.functions.comparison.Cast('messages', models.TextField()), models.Value('\\n'), models.Value(''))), models.Value(' .,;:!?'), models.Value(''), function='translate', output_field=models.TextField())), output_field=models.CharField(max_length=32))),
                ('author', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='prompts', to='annotate.project')),
            ],
            options={
                'ordering': ['id'],
            },
        ),
        migrations.CreateModel(
            name='Demonstration',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('revision_no', models.PositiveIntegerField(default=1)),
                ('retracted', models.BooleanField(default=False)),
                ('guideline_version', models.PositiveIntegerField(null=True)),
                ('active_seconds', models.PositiveIntegerField(default=0)),
                ('pasted_share', models.FloatField(default=0.0, validators=[django.core.validators.MinValueValidator(0.0), django.core.validators.MaxValueValidator(1.0)])),
                ('idempotency_key', models.UUIDField(help_text='Made by the page: one submit, however often it is sent.', null=True, unique=True)),
                ('late', models.BooleanField(default=False, help_text='Came after the place had gone.')),
                ('comment', models.TextField(blank=True, help_text='For the lead.')),
                ('source', models.CharField(blank=True, max_length=100)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('text', models.TextField()),
                ('assignment', models.ForeignKey(help_text='Null: imported.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='%(class)ss', to='annotate.assignment')),
                ('labeler', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='%(class)ss', to=settings.AUTH_USER_MODEL)),
                ('supersedes', models.OneToOneField(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='superseded_by', to='annotate.demonstration')),
                ('distilled_from', models.ForeignKey(help_text='The policy whose answer this is: it owes something to all who taught that one.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='distillations', to='annotate.policy')),
                ('prompt', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='%(class)ss', to='annotate.prompt')),
            ],
            options={
                'ordering': ['id'],
                'abstract': False,
            },
        ),
        migrations.AddField(
            model_name='completion',
            name='prompt',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='completions', to='annotate.prompt'),
        ),
        migrations.CreateModel(
            name='PromptDraft',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('plain', 'plain'), ('few_shot', 'few-shot'), ('use_case', 'for a use case')], max_length=10)),
                ('values', models.JSONField(default=dict)),
                ('saved_at', models.DateTimeField(auto_now=True)),
                ('membership', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='prompt_drafts', to='annotate.membership')),
            ],
        ),
        migrations.CreateModel(
            name='PromptFlag',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('reason', models.CharField(choices=[('unclear', 'unclear'), ('sensitive', 'sensitive or personal'), ('harmful', 'asks for harm'), ('duplicate', 'like another prompt'), ('other', 'something else')], max_length=10)),
                ('note', models.CharField(blank=True, max_length=500)),
                ('flagged_at', models.DateTimeField(auto_now=True)),
                ('settled_at', models.DateTimeField(null=True)),
                ('labeler', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('prompt', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='flags', to='annotate.prompt')),
            ],
            options={
                'ordering': ['id'],
            },
        ),
        migrations.CreateModel(
            name='Ranking',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('revision_no', models.PositiveIntegerField(default=1)),
                ('retracted', models.BooleanField(default=False)),
                ('guideline_version', models.PositiveIntegerField(null=True)),
                ('active_seconds', models.PositiveIntegerField(default=0)),
                ('pasted_share', models.FloatField(default=0.0, validators=[django.core.validators.MinValueValidator(0.0), django.core.validators.MaxValueValidator(1.0)])),
                ('idempotency_key', models.UUIDField(help_text='Made by the page: one submit, however often it is sent.', null=True, unique=True)),
                ('late', models.BooleanField(default=False, help_text='Came after the place had gone.')),
                ('comment', models.TextField(blank=True, help_text='For the lead.')),
                ('source', models.CharField(blank=True, max_length=100)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('outcome', models.CharField(choices=[('ranked', 'Ranked'), ('all_bad', 'all bad')], default='ranked', max_length=10)),
                ('strength', models.PositiveSmallIntegerField(help_text='Of two: 4 significantly better … 1 negligibly better (Llama 2, §3.2.1).', null=True, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(4)])),
                ('reason', models.CharField(blank=True, max_length=500)),
                ('shown_order', models.JSONField(default=list)),
                ('assignment', models.ForeignKey(help_text='Null: imported.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='%(class)ss', to='annotate.assignment')),
                ('labeler', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='%(class)ss', to=settings.AUTH_USER_MODEL)),
                ('prompt', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='%(class)ss', to='annotate.prompt')),
                ('supersedes', models.OneToOneField(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='superseded_by', to='annotate.ranking')),
            ],
            options={
                'ordering': ['id'],
                'abstract': False,
            },
        ),
        migrations.CreateModel(
            name='Placement',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('place', models.PositiveSmallIntegerField(validators=[django.core.validators.MinValueValidator(1)])),
                ('rating', models.PositiveSmallIntegerField(null=True, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(7)])),
                ('flags', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(choices=[('fails_instruction', 'Fails the instruction'), ('hallucination', 'Makes things up'), ('violates_constraint', 'Violates a constraint'), ('inappropriate', 'Inappropriate for an assistant'), ('sexual', 'Sexual content'), ('violent', 'Violent content'), ('encourages_harm', 'Encourages harm'), ('denigrates', 'Denigrates a protected class'), ('harmful_advice', 'Gives harmful advice'), ('opinion', 'Expresses an opinion'), ('moral_judgement', 'Expresses a moral judgement')], max_length=30), blank=True, default=list, size=None)),
                ('completion', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='placements', to='annotate.completion')),
                ('ranking', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='placements', to='annotate.ranking')),
            ],
            options={
                'ordering': ['place', 'id'],
            },
        ),
        migrations.CreateModel(
            name='Review',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('verdict', models.CharField(choices=[('accepted', 'Accepted'), ('sent_back', 'sent back'), ('excluded', 'Excluded')], max_length=10)),
                ('cause', models.CharField(blank=True, choices=[('ambiguous_prompt', 'ambiguous prompt'), ('guideline_gap', 'guideline gap'), ('labeler_error', 'labeler error'), ('subjective', 'truly subjective')], max_length=20)),
                ('score', models.PositiveSmallIntegerField(null=True, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(7)])),
                ('comment', models.TextField(blank=True, help_text='For the labeler.')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('assignment', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='reviews', to='annotate.assignment')),
                ('demonstration', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='reviews', to='annotate.demonstration')),
                ('ranking', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='reviews', to='annotate.ranking')),
                ('reviewer', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='reviews', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['id'],
            },
        ),
        migrations.AddField(
            model_name='assignment',
            name='sent_back',
            field=models.ForeignKey(help_text='Who wants the answer done anew, while it is not.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='annotate.review'),
        ),
        migrations.CreateModel(
            name='Task',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('write', 'Write'), ('rank', 'Rank'), ('review', 'Review')], max_length=10)),
                ('overlap', models.PositiveSmallIntegerField(default=1)),
                ('priority', models.SmallIntegerField(default=0, help_text='Higher comes first.')),
                ('batch', models.CharField(blank=True, db_index=True, help_text='What the task was made for.', max_length=50)),
                ('doubts', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(choices=[('low_agreement', 'low agreement'), ('gold_failed', 'gold failed'), ('flagged', 'Flagged'), ('all_bad', 'all bad'), ('too_fast', 'too fast'), ('new_writer', 'new writer'), ('corrected', 'corrected after being sent back'), ('random', 'random sample')], max_length=20), blank=True, db_default=[], default=list, size=None)),
                ('is_practice', models.BooleanField(db_default=False, default=False, help_text='Shows the right answer afterwards.')),
                ('closed_at', models.DateTimeField(help_text='When the last wanted answer came in.', null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('completions', models.ManyToManyField(blank=True, related_name='tasks', to='annotate.completion')),
                ('gold', models.ForeignKey(help_text='The right answer, where it is known.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='gold_tasks', to='annotate.ranking')),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='tasks', to='annotate.project')),
                ('prompt', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='tasks', to='annotate.prompt')),
                ('subject', models.ForeignKey(help_text='The task whose answers a review is of.', null=True, on_delete=django.db.models.deletion.CASCADE, related_name='reviews', to='annotate.task')),
            ],
            options={
                'ordering': ['id'],
            },
        ),
        migrations.AddField(
            model_name='assignment',
            name='task',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='assignments', to='annotate.task'),
        ),
        migrations.CreateModel(
            name='Upload',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(blank=True, help_text='Of the file; none: pasted.', max_length=100)),
                ('format', models.CharField(max_length=10)),
                ('size', models.PositiveBigIntegerField(default=0)),
                ('kind', models.CharField(blank=True, max_length=20)),
                ('columns', models.JSONField(default=dict, help_text='Which column is which field, if not named so.')),
                ('references', models.BooleanField(default=False)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('by', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='uploads', to='annotate.project')),
            ],
            options={
                'ordering': ['-id'],
            },
        ),
        migrations.CreateModel(
            name='UploadPart',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('data', models.BinaryField()),
                ('upload', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='parts', to='annotate.upload')),
            ],
            options={
                'ordering': ['id'],
            },
        ),
        migrations.CreateModel(
            name='Withdrawal',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('reason', models.CharField(blank=True, max_length=500)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('decided_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('person', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='withdrawals', to=settings.AUTH_USER_MODEL)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='withdrawals', to='annotate.project')),
            ],
            options={
                'ordering': ['-id'],
            },
        ),
        migrations.CreateModel(
            name='Cell',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('row', models.PositiveSmallIntegerField()),
                ('column', models.PositiveSmallIntegerField()),
                ('text', models.TextField(blank=True)),
                ('finish_reason', models.CharField(blank=True, max_length=20)),
                ('grid', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='cells', to='annotate.grid')),
            ],
            options={
                'ordering': ['row', 'column'],
                'constraints': [models.UniqueConstraint(fields=('grid', 'row', 'column'), name='one_answer_a_cell')],
            },
        ),
        migrations.CreateModel(
            name='Feedback',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('thumb_up', models.BooleanField()),
                ('reasons', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(choices=[('correct', 'Correct'), ('helpful', 'Helpful'), ('well_written', 'Well written'), ('not_correct', 'Not correct'), ('not_followed', "Didn't follow the instructions"), ('refused', 'Refused wrongly'), ('harmful', 'Harmful'), ('too_long', 'Too long'), ('too_short', 'Too short'), ('style', 'Style'), ('other', 'Something else')], max_length=20), blank=True, default=list, size=None)),
                ('note', models.TextField(blank=True)),
                ('wanted_answer', models.TextField(blank=True, help_text='The answer the guest wanted.')),
                ('retracted_at', models.DateTimeField(null=True)),
                ('harvested_at', models.DateTimeField(help_text="When it was last looked at for the project's data.", null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('updated_at', models.DateTimeField(auto_now=True)),
                ('completion', models.ForeignKey(help_text='Imported thumbs.', null=True, on_delete=django.db.models.deletion.CASCADE, related_name='feedback', to='annotate.completion')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='feedback', to=settings.AUTH_USER_MODEL)),
                ('message', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='feedback', to='annotate.message')),
            ],
            options={
                'verbose_name_plural': 'feedback',
                'ordering': ['id'],
                'indexes': [models.Index(condition=models.Q(('harvested_at', None)), fields=['id'], name='thumbs_to_harvest')],
                'constraints': [models.UniqueConstraint(fields=('message', 'user'), name='one_thumb_a_message'), models.UniqueConstraint(fields=('completion', 'user'), name='one_thumb_a_completion'), models.CheckConstraint(condition=models.Q(('message', None), ('completion', None), _connector='XOR'), name='feedback_on_one_answer')],
            },
        ),
        migrations.AddConstraint(
            model_name='message',
            constraint=models.UniqueConstraint(condition=models.Q(('state', 'streaming')), fields=('conversation',), name='one_answer_at_a_time'),
        ),
        migrations.AddConstraint(
            model_name='policy',
            constraint=models.UniqueConstraint(fields=('project', 'name'), name='one_policy_a_name'),
        ),
        migrations.AddConstraint(
            model_name='policy',
            constraint=models.UniqueConstraint(condition=models.Q(('state', 'live')), fields=('project',), name='one_live_policy'),
        ),
        migrations.AddConstraint(
            model_name='policy',
            constraint=models.UniqueConstraint(condition=models.Q(('state', 'challenger')), fields=('project',), name='one_challenger'),
        ),
        migrations.AddConstraint(
            model_name='membership',
            constraint=models.UniqueConstraint(fields=('project', 'user'), name='one_membership_a_person'),
        ),
        migrations.AddConstraint(
            model_name='guideline',
            constraint=models.UniqueConstraint(fields=('project', 'version'), name='one_guideline_a_version'),
        ),
        migrations.AddIndex(
            model_name='prompt',
            index=models.Index(fields=['project', 'id'], name='annotate_pr_project_657979_idx'),
        ),
        migrations.AddIndex(
            model_name='prompt',
            index=models.Index(fields=['project', 'split', 'id'], name='annotate_pr_project_729f2f_idx'),
        ),
        migrations.AddIndex(
            model_name='prompt',
            index=models.Index(fields=['project', 'source', 'id'], name='annotate_pr_project_dd74d9_idx'),
        ),
        migrations.AddIndex(
            model_name='prompt',
            index=models.Index(condition=models.Q(('kind', ''), _negated=True), fields=['project', 'author', 'id'], name='prompts_written'),
        ),
        migrations.AddIndex(
            model_name='prompt',
            index=models.Index(condition=models.Q(('awaits_review', True)), fields=['project', 'id'], name='prompts_to_review'),
        ),
        migrations.AddIndex(
            model_name='prompt',
            index=django.contrib.postgres.indexes.GinIndex(fields=['tags'], name='prompts_by_tag'),
        ),
        migrations.AddIndex(
            model_name='prompt',
            index=django.contrib.postgres.indexes.GinIndex(fields=['search'], name='prompts_by_word'),
        ),
        migrations.AddConstraint(
            model_name='prompt',
            constraint=models.UniqueConstraint(fields=('project', 'content_hash'), name='one_prompt_a_content'),
        ),
        migrations.AddConstraint(
            model_name='prompt',
            constraint=models.CheckConstraint(condition=models.Q(('awaits_review', False), ('archived_at__isnull', False), _connector='OR'), name='out_of_use_while_it_waits'),
        ),
        migrations.AddIndex(
            model_name='demonstration',
            index=models.Index(fields=['labeler', '-created_at'], name='annotate_de_labeler_bac8ef_idx'),
        ),
        migrations.AddConstraint(
            model_name='demonstration',
            constraint=models.UniqueConstraint(condition=models.Q(('supersedes', None)), fields=('assignment',), name='one_demonstration_an_assignment'),
        ),
        migrations.AddIndex(
            model_name='completion',
            index=models.Index(fields=['prompt', 'text_hash'], name='annotate_co_prompt__e6f531_idx'),
        ),
        migrations.AddConstraint(
            model_name='promptdraft',
            constraint=models.UniqueConstraint(fields=('membership', 'kind'), name='one_prompt_draft_a_kind'),
        ),
        migrations.AddIndex(
            model_name='promptflag',
            index=models.Index(condition=models.Q(('settled_at', None)), fields=['prompt'], name='flags_to_settle'),
        ),
        migrations.AddConstraint(
            model_name='promptflag',
            constraint=models.UniqueConstraint(fields=('prompt', 'labeler'), name='one_flag_a_labeler'),
        ),
        migrations.AddIndex(
            model_name='ranking',
            index=models.Index(fields=['labeler', '-created_at'], name='annotate_ra_labeler_ebc992_idx'),
        ),
        migrations.AddConstraint(
            model_name='ranking',
            constraint=models.UniqueConstraint(condition=models.Q(('supersedes', None)), fields=('assignment',), name='one_ranking_an_assignment'),
        ),
        migrations.AddConstraint(
            model_name='placement',
            constraint=models.UniqueConstraint(fields=('ranking', 'completion'), name='one_place_a_completion'),
        ),
        migrations.AddConstraint(
            model_name='review',
            constraint=models.CheckConstraint(condition=models.Q(('demonstration', None), ('ranking', None), _connector='XOR'), name='reviews_one_label'),
        ),
        migrations.AddIndex(
            model_name='task',
            index=models.Index(models.F('project'), models.F('kind'), models.OrderBy(models.F('priority'), descending=True), models.F('id'), condition=models.Q(('closed_at', None)), name='open_tasks_in_order'),
        ),
        migrations.AddConstraint(
            model_name='task',
            constraint=models.UniqueConstraint(condition=models.Q(('closed_at', None)), fields=('subject',), name='one_open_review_a_task'),
        ),
        migrations.AddIndex(
            model_name='assignment',
            index=models.Index(fields=['labeler', 'state', 'leased_until'], name='annotate_as_labeler_d4f72d_idx'),
        ),
        migrations.AddIndex(
            model_name='assignment',
            index=models.Index(fields=['labeler', '-id'], name='annotate_as_labeler_643d2b_idx'),
        ),
        migrations.AddConstraint(
            model_name='assignment',
            constraint=models.UniqueConstraint(fields=('task', 'labeler'), name='one_assignment_a_labeler'),
        ),
        migrations.AddConstraint(
            model_name='withdrawal',
            constraint=models.UniqueConstraint(fields=('project', 'person'), name='one_withdrawal_a_person'),
        ),
    ]
