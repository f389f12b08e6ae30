"""Talks: the page of the labeler who talks, and the one on which operators ask for them."""
