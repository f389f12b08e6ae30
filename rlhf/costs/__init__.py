"""What policies cost to make and to ask, beside how good they are."""
