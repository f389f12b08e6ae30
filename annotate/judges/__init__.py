"""Judges: models that answer ranking tasks by an operator's rubric, beside people and never
among them."""
