"""The types of the columns of an export, as Arrow and as the card of a data set names them, and
Parquet files of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import IO, Any

from annotate.labels.kinds import BEATEN

Line = dict[str, Any]
ROW_GROUP = 16 * 2**20  # characters
TEXTS = ("completions", "policies", "finish_reasons", "letters", "tags", "reasons")
WHOLES = ("strength", "margin", "guideline_version", "active_seconds", "labelers")


def schema_of(line: Line) -> Any:
    """The Arrow schema of an export by one of its lines."""
    import pyarrow

    return pyarrow.schema([(name, _type_of(name, value)) for name, value in line.items()])


def _type_of(name: str, value: Any) -> Any:
    import pyarrow

    text, whole = pyarrow.string(), pyarrow.int64()
    turn = pyarrow.struct([("from", text), ("value", text)])
    if name == "conversations":
        return pyarrow.list_(turn)
    if name in ("prompt", "messages", "completion", "chosen", "rejected", *BEATEN):
        if isinstance(value, str):
            return text
        message = pyarrow.struct([("role", text), ("content", text)])
        return turn if isinstance(value, dict) else pyarrow.list_(message)
    if name in TEXTS:
        return pyarrow.list_(text)
    if name in ("ranks", "ratings", "shown_order"):
        return pyarrow.list_(whole)
    if name == "flags":
        return pyarrow.list_(pyarrow.list_(text))
    if name in ("label", "simulated", "archived"):
        return pyarrow.bool_()
    if name in WHOLES:
        return whole
    return pyarrow.float64() if name in ("pasted_share", "agreement") else text


def write_parquet(file: IO[bytes], lines: Iterable[str]) -> None:
    """In row groups of a few megabytes: neither writer nor reader holds more at once."""
    import pyarrow
    from pyarrow import parquet

    groups = _row_groups(lines)
    first = next(groups)
    schema = schema_of(first[0] if first else {})
    with parquet.ParquetWriter(file, schema) as writer:
        for rows in (first, *groups):
            writer.write_table(pyarrow.Table.from_pylist(rows, schema))


def _row_groups(lines: Iterable[str]) -> Iterator[list[Line]]:
    group: list[Line] = []
    size = 0
    for line in lines:
        group.append(json.loads(line))
        size += len(line)
        if size > ROW_GROUP:
            yield group
            group, size = [], 0
    yield group


def features_of(line: Line, *, of_table: bool = False) -> list[str]:
    """The columns as lines of the YAML in a card (`dataset_info`)."""
    found = []
    for column in schema_of(line):
        type = _in_table(column.type) if of_table else column.type
        found += [f"  - name: {column.name}", *_yaml(type, "    ")]
    return found


def _in_table(type: Any) -> Any:
    """What the cells of a column are read as: JSON as text, and a whole number as one that may be
    missing."""
    import pyarrow

    if pyarrow.types.is_boolean(type):
        return type
    is_number = pyarrow.types.is_integer(type) or pyarrow.types.is_floating(type)
    return pyarrow.float64() if is_number else pyarrow.string()


def _yaml(type: Any, indent: str) -> list[str]:
    import pyarrow

    if pyarrow.types.is_struct(type):
        fields = [type.field(i) for i in range(type.num_fields)]
        lines = [f"{indent}struct:"]
        for each in fields:
            lines += [f"{indent}- name: {each.name}", *_yaml(each.type, indent + "  ")]
        return lines
    if not pyarrow.types.is_list(type):
        names = {"double": "float64"}
        return [f"{indent}dtype: {names.get(str(type), str(type))}"]
    inner = type.value_type
    if pyarrow.types.is_struct(inner):
        return [f"{indent}list:", *_yaml(inner, indent)[1:]]
    if pyarrow.types.is_list(inner):
        return [f"{indent}list:", *_yaml(inner, indent + "  ")]
    return [f"{indent}list: {inner}"]
