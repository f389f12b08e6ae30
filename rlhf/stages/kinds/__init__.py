"""Every kind of run, each in a file of its own; `rlhf.stages` names them in order."""
