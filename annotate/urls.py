from django.contrib.auth.views import LogoutView
from django.urls import URLPattern, URLResolver, include, path, reverse_lazy

from annotate.api import endpoints as api
from annotate.audit import views as audit
from annotate.audit.routes import audited
from annotate.judges import views as judges
from annotate.notices import views as notices
from annotate.views import (
    connections,
    documents,
    feedback,
    imports,
    invitations,
    label,
    labelers,
    members,
    people,
    progress,
    project,
    prompts,
    review,
    writing,
)
from annotate.views.accounts import security, signing_in
from annotate.views.chat import history
from annotate.views.chat import talk as chat
from annotate.views.playground import grids, new_grids, rules, templates, uses
from annotate.views.programs import pages as programs
from annotate.views.talks import plans as talk_plans
from annotate.views.talks import work as talk

# The browser drops what it kept of whoever has signed out.
SIGNED_OUT = reverse_lazy("sign_in", query={"signed-out": 1})

urlpatterns: list[URLPattern | URLResolver] = [
    path("", people.home, name="home"),
    path("", include(signing_in.addresses)),
    path("account/security/", include(security.addresses)),
    path("invitations/<str:secret>/", invitations.invitation, name="invitation"),
    path("account/", people.account, name="account"),
    path("projects/new/", project.project_new, name="project_new"),
    path("sign-out/", LogoutView.as_view(next_page=SIGNED_OUT), name="sign_out"),
    path("p/<slug:slug>/", people.project, name="project"),
    path("p/<slug:slug>/find/", project.find, name="find"),
    path("p/<slug:slug>/label/", label.label, name="label"),
    path("p/<slug:slug>/label/<int:assignment_id>/", label.assignment, name="assignment"),
    path("p/<slug:slug>/label/<int:assignment_id>/practice/", label.practice, name="practice"),
    path("p/<slug:slug>/label/<int:assignment_id>/draft/", label.draft, name="draft"),
    path("p/<slug:slug>/label/<int:assignment_id>/skip/", label.skip, name="skip"),
    path("p/<slug:slug>/label/<int:assignment_id>/flag/", label.flag, name="flag"),
    path("p/<slug:slug>/label/<int:assignment_id>/undo/", label.undo, name="undo"),
    path("p/<slug:slug>/label/<int:talk_id>/talk/", include(talk.of_talk)),
    path("p/<slug:slug>/talks/", talk_plans.talks, name="talks"),
    path("p/<slug:slug>/preview/", label.preview, name="preview"),
    path("p/<slug:slug>/my-work/", label.my_work, name="my_work"),
    path("p/<slug:slug>/my-prompts/", writing.own_prompts, name="own_prompts"),
    path("p/<slug:slug>/my-prompts/draft/", writing.own_prompts_draft, name="own_prompts_draft"),
    path("p/<slug:slug>/progress/", progress.progress, name="progress"),
    path("p/<slug:slug>/batches/", progress.batches, name="batches"),
    path("p/<slug:slug>/gold/", progress.gold, name="gold"),
    path("p/<slug:slug>/guideline/", project.guideline, name="guideline"),
    path("p/<slug:slug>/guideline/new/", project.guideline_new, name="guideline_new"),
    path("p/<slug:slug>/settings/", project.settings, name="project_settings"),
    path("p/<slug:slug>/labelers/", labelers.labelers, name="labelers"),
    path("p/<slug:slug>/labelers/times/", labelers.time_sheet, name="labelers_time_sheet"),
    path("p/<slug:slug>/labelers/times.csv", labelers.times, name="labelers_times"),
    path("p/<slug:slug>/labelers/guests/", labelers.guests, name="labelers_guests"),
    path("p/<slug:slug>/labelers/members/", members.members, name="labelers_members"),
    path("p/<slug:slug>/labelers/<int:membership_id>/", labelers.one, name="labeler"),
    path(
        "p/<slug:slug>/labelers/<int:membership_id>/answers/<int:assignment_id>/",
        labelers.answer,
        name="labelers_answer",
    ),
    path("p/<slug:slug>/notices/", notices.notices, name="notices"),
    path("p/<slug:slug>/notices/unseen/", notices.unseen, name="notices_unseen"),
    path("p/<slug:slug>/judges/", include(judges.addresses)),
    path("audit/", audit.site_audit, name="site_audit"),
    path("audit/export/", audit.site_audit_export, name="site_audit_export"),
    path("p/<slug:slug>/audit/", audit.audit, name="audit"),
    path("p/<slug:slug>/audit/export/", audit.audit_export, name="audit_export"),
    path("p/<slug:slug>/feedback/", feedback.feedback, name="feedback"),
    path("p/<slug:slug>/review/", review.reviews, name="reviews"),
    path("p/<slug:slug>/review/next/", review.review_next, name="review_next"),
    path("p/<slug:slug>/review/of/<int:task_id>/", review.review_open, name="review_open"),
    path("p/<slug:slug>/review/<int:assignment_id>/", review.one, name="review_one"),
    path("p/<slug:slug>/review/<int:assignment_id>/skip/", review.skip, name="review_skip"),
    path("shared/<str:key>/", history.shared_chat, name="shared_chat"),
    path("p/<slug:slug>/chat/", chat.chat, name="chat"),
    path("p/<slug:slug>/chat/new/", chat.chat_new, name="chat_new"),
    path("p/<slug:slug>/chat/all/", history.chat_history, name="chat_history"),
    path("p/<slug:slug>/chat/all/delete/", history.chat_delete_all, name="chat_delete_all"),
    path("p/<slug:slug>/chat/<int:conversation_id>/", include(chat.of_conversation)),
    path("p/<slug:slug>/chat/<int:conversation_id>/", include(history.of_conversation)),
    path("p/<slug:slug>/chat/questions/<int:question_id>/", include(chat.of_question)),
    path("p/<slug:slug>/chat/answers/<int:message_id>/", include(chat.of_answer)),
    path("", include(api.addresses)),
    path("p/<slug:slug>/documents/", include(documents.of_documents)),
    path("p/<slug:slug>/policies/new/", connections.policies_new, name="policies_new"),
    path("p/<slug:slug>/connections/", connections.connections, name="connections"),
    path("p/<slug:slug>/connections/new/", connections.new, name="connections_new"),
    path(
        "p/<slug:slug>/connections/<int:connection_id>/",
        include(connections.of_connection),
    ),
    path("p/<slug:slug>/programs/", include(programs.addresses)),
    path("p/<slug:slug>/playground/", new_grids.playground, name="playground"),
    path("p/<slug:slug>/playground/rules/", rules.rules, name="playground_rules"),
    path("p/<slug:slug>/playground/templates/", include(templates.of_templates)),
    path("p/<slug:slug>/playground/<int:grid_id>/", include([*grids.of_grid, *uses.of_grid])),
    path("p/<slug:slug>/prompts/", prompts.prompts, name="prompts"),
    path("p/<slug:slug>/prompts/<int:prompt_id>/", prompts.one, name="prompts_one"),
    path("p/<slug:slug>/prompts/import/", imports.choose, name="prompts_import"),
    path("p/<slug:slug>/prompts/import/<int:upload_id>/", imports.one, name="prompts_import_one"),
    path(
        "p/<slug:slug>/prompts/import/<int:upload_id>/problems.csv",
        imports.bad_lines,
        name="prompts_import_bad_lines",
    ),
    path("p/<slug:slug>/prompts/tasks/", prompts.tasks, name="prompts_tasks"),
    path("p/<slug:slug>/prompts/mark/", prompts.mark, name="prompts_mark"),
    path("p/<slug:slug>/prompts/export/<slug:kind>/", prompts.export, name="prompts_export"),
]
audited(urlpatterns)
