from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path

from annotate import api
from annotate.views import chat, label, labelers, people, playground, progress, prompts, review

urlpatterns = [
    path("", people.home, name="home"),
    path("sign-in/", LoginView.as_view(template_name="annotate/sign_in.html"), name="sign_in"),
    path("sign-in/<str:uid>/<str:token>/", people.sign_in_by_link, name="sign_in_by_link"),
    path("sign-out/", LogoutView.as_view(), name="sign_out"),
    path("p/<slug:slug>/", people.project, name="project"),
    path("p/<slug:slug>/label/", label.label, name="label"),
    path("p/<slug:slug>/label/<int:assignment_id>/", label.assignment, name="assignment"),
    path("p/<slug:slug>/label/<int:assignment_id>/practice/", label.practice, name="practice"),
    path("p/<slug:slug>/label/<int:assignment_id>/draft/", label.draft, name="draft"),
    path("p/<slug:slug>/label/<int:assignment_id>/skip/", label.skip, name="skip"),
    path("p/<slug:slug>/label/<int:assignment_id>/undo/", label.undo, name="undo"),
    path("p/<slug:slug>/preview/", label.preview, name="preview"),
    path("p/<slug:slug>/my-work/", label.my_work, name="my_work"),
    path("p/<slug:slug>/progress/", progress.progress, name="progress"),
    path("p/<slug:slug>/gold/", progress.gold, name="gold"),
    path("p/<slug:slug>/labelers/", labelers.labelers, name="labelers"),
    path("p/<slug:slug>/labelers/<int:membership_id>/", labelers.one, name="labeler"),
    path("p/<slug:slug>/review/", review.reviews, name="reviews"),
    path("p/<slug:slug>/review/next/", review.review_next, name="review_next"),
    path("p/<slug:slug>/review/<int:assignment_id>/", review.one, name="review_one"),
    path("p/<slug:slug>/chat/", chat.chat, name="chat"),
    path("p/<slug:slug>/chat/new/", chat.chat_new, name="chat_new"),
    path("p/<slug:slug>/chat/<int:conversation_id>/", include(chat.of_conversation)),
    path("p/<slug:slug>/chat/answers/<int:message_id>/", include(chat.of_answer)),
    path("", include(api.addresses)),
    path("p/<slug:slug>/playground/", playground.playground, name="playground"),
    path("p/<slug:slug>/playground/<int:grid_id>/", include(playground.of_grid)),
    path("p/<slug:slug>/prompts/", prompts.prompts, name="prompts"),
    path("p/<slug:slug>/prompts/<int:prompt_id>/", prompts.one, name="prompts_one"),
    path("p/<slug:slug>/prompts/import/", prompts.bring, name="prompts_import"),
    path("p/<slug:slug>/prompts/tasks/", prompts.tasks, name="prompts_tasks"),
    path("p/<slug:slug>/prompts/mark/", prompts.mark, name="prompts_mark"),
    path("p/<slug:slug>/prompts/export/<slug:kind>/", prompts.export, name="prompts_export"),
]
