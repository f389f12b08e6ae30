"""Trackers that people have: what came of a run, told to MLflow, TensorBoard, trackio, W&B."""
