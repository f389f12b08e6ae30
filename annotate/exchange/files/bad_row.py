"""What is wrong with a line of a file, for whoever reads files, in whatever process."""


class BadRow(ValueError):
    """What is wrong with a line: a sentence for the person who wrote it."""


class Unreadable(BadRow):
    """Why nothing of a file can be read from here on: no line that could be left out."""


class Note(str):
    """What was noticed about a file, in a sentence."""
