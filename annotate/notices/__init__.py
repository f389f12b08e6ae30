"""What the operators of a project are told has happened, each in an inbox of their own."""
