"""What a reviewer can say of a label, and of where trouble came from."""

from django.db import models


class Verdict(models.TextChoices):
    ACCEPTED = "accepted"
    SENT_BACK = "sent_back", "sent back"
    EXCLUDED = "excluded"


class Cause(models.TextChoices):
    AMBIGUOUS_PROMPT = "ambiguous_prompt", "ambiguous prompt"
    GUIDELINE_GAP = "guideline_gap", "guideline gap"
    LABELER_ERROR = "labeler_error", "labeler error"
    SUBJECTIVE = "subjective", "truly subjective"
