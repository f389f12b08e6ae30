"""What is wrong with a line of a file, for whoever reads files, in whatever process."""


class BadRow(ValueError):
    """What is wrong with a line: a sentence for the person who wrote it."""
