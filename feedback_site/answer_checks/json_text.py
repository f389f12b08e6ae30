"""The answer is JSON, of any kind or by a schema.

A schema comes from a user, an answer from a model: patterns are RE2's, nothing is fetched, and a
schema that runs in a circle is passed by nothing."""

from __future__ import annotations

import json
from typing import Any

import re2
from jsonschema import Draft202012Validator, SchemaError, ValidationError
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

from .check import Check, CheckError
from .regex import matches, pattern, what_to_do


class JSONText(Check):
    name = "json"
    setting = "name, age"
    meaning = "valid JSON and nothing else; with a setting, an object that has these keys"

    def __init__(self, setting: str = "") -> None:
        super().__init__(setting)
        self.keys = setting.replace(",", " ").split()

    def passes(self, completion: str, reference: str) -> bool:
        return is_json(completion, self.keys)


class JSONSchema(Check):
    name = "json-schema"
    setting = '{"type": "object", "required": ["name"]}'
    needs_setting = True
    meaning = "JSON that this schema (draft 2020-12) allows, and nothing else"

    def __init__(self, setting: str = "") -> None:
        super().__init__(setting)
        try:
            schema = json.loads(setting)
            Draft202012Validator.check_schema(schema)
            for each in _patterns(schema):
                pattern(each)
        except (ValueError, RecursionError):
            raise CheckError(f"{self.name}: the schema is no JSON") from None
        except SchemaError as error:
            raise CheckError(f"{self.name}: the schema is wrong: {error.message}") from None
        except re2.error as error:
            raise CheckError(f"{self.name}: {what_to_do(error)}") from None
        self.validator = _Validator(schema, registry=Registry())

    def passes(self, completion: str, reference: str) -> bool:
        try:
            return self.validator.is_valid(json.loads(completion))
        except (ValueError, RecursionError, Unresolvable):
            return False


def _patterns(schema: Any) -> list[str]:
    """All patterns of a schema, wherever they stand."""
    if isinstance(schema, list):
        return [found for each in schema for found in _patterns(each)]
    if not isinstance(schema, dict):
        return []
    own = [schema["pattern"]] if isinstance(schema.get("pattern"), str) else []
    names = schema.get("patternProperties")
    own += [*names] if isinstance(names, dict) else []
    return own + [found for each in schema.values() for found in _patterns(each)]


def _pattern(_: Any, written: str, value: Any, __: Any) -> Any:
    if isinstance(value, str) and not matches(value, written):
        yield ValidationError(f"{value!r} is not like {written!r}")


def _pattern_properties(validator: Any, named: Any, value: Any, _: Any) -> Any:
    if not isinstance(value, dict):
        return
    for written, schema in named.items():
        for name, each in value.items():
            if matches(name, written):
                yield from validator.descend(each, schema, path=name, schema_path=written)


_Validator = extend(
    Draft202012Validator, {"pattern": _pattern, "patternProperties": _pattern_properties}
)


def is_json(text: str, keys: list[str]) -> bool:
    """Tells whether the text is JSON, and an object with these keys if there are any."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return not keys or (isinstance(value, dict) and set(keys) <= set(value))
