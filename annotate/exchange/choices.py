"""How a file is to be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Choices:
    """The kind of the rows, if not found from the first; their shape, by name; {column: field},
    where the names are others; whether each answer of a conversation is learnt from or the last;
    the encoding of a text, and the key of the rows in an object wrapped round them."""

    kind: str = ""
    shape: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    each_answer: bool = False
    encoding: str = ""
    key: str = ""

    @property
    def of_file(self) -> dict[str, str]:
        """What `readers.rows_in` needs to know."""
        return {"encoding": self.encoding, "key": self.key}
