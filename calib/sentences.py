"""What pydantic found wrong with values, as one sentence in our words: the key, what, and advice.

Nothing of pydantic's wording reaches a user: it speaks of tuples, literals and inputs, names the
alternatives of a union one by one, and the first of them first.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

__all__ = ["sentence", "short"]

EXPECTED = {
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number that is not so large",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a number that is neither nan nor infinite",
    "string_type": "text",
    "string_sub_type": "text",
    "string_unicode": "text in UTF-8",
    "tuple_type": "a list",
    "list_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "keys with values",
    "mapping_type": "keys with values",
    "model_type": "keys with values",
    "model_attributes_type": "keys with values",
    "dataclass_type": "keys with values",
    "none_required": "nothing (null)",
    "path_type": "a path",
}
"""What a key should have held, by pydantic's name of the error."""

BOUNDS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("of at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("of at most", "le"),
}


def sentence(model: Any, error: ValidationError, section: str = "") -> str:
    """Return the one sentence about what is wrong: the key, what was found, what helps.

    Parameters
    ----------
    model : type
        Which the values were to become: a model, or any type with fields.
    error : pydantic.ValidationError
    section : str
        Key below which the values stand, such as ``settings``.

    Returns
    -------
    str
        Without the file, and without a full stop.
    """
    errors = [_Wrong.of(model, details, section) for details in error.errors(include_url=False)]
    # an unknown key is the likely cause of a missing one: name it first
    first = next((e for e in errors if e.kind == "extra_forbidden"), errors[0])
    # of the alternatives of a key, the one that the values were meant to be went deeper
    deeper = [e for e in errors if first.key and e.key.startswith(f"{first.key}.")]
    first = deeper[0] if deeper else first
    if first.kind == "extra_forbidden":
        known = _known_keys(first.holder)
        near = difflib.get_close_matches(first.name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        return f"unknown key {first.key!r}; {hint}"
    if first.kind == "missing" and first.row:
        key = first.key.rpartition(".")[0]
        return f"key {key!r}: found {short(first.found)}, expected {first.row}; correct it"
    if first.kind == "missing":
        return f"key {first.key!r} is missing; add it{first.about}"
    if first.kind in ("value_error", "assertion_error"):
        text = first.message
        named, colon, rest = text.partition(": ")
        if colon and named in _known_keys(first.annotation):  # a check of several keys names one
            key = ".".join(filter(None, [first.key, named]))
            return f"key {key!r}: {rest}"
        if "token in it" in text or isinstance(first.found, Mapping | BaseModel):
            return f"key {first.key!r}: {text}" if first.key else text
        return f"key {first.key!r}: found {short(first.found)}, {text}; correct it"
    same = [e for e in errors if e.key == first.key]
    expected = " or ".join(dict.fromkeys(e.expected for e in same))
    advice = next((e.advice for e in same if e.advice), "correct it")
    return (
        f"key {first.key!r}: found {short(first.found)}, expected {expected}{first.about}; {advice}"
    )


def short(value: Any) -> str:
    """Return a value as YAML would show it, roughly, and not at any length."""
    if value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, list | tuple):
        text = f"[{', '.join(short(v) for v in value[:50])}{', ...' * (len(value) > 50)}]"
    else:
        text = " ".join(repr(value).split())
    return text if len(text) <= 200 else f"{text[:200]}..."


@dataclass(frozen=True)
class _Wrong:
    """One error: the key as the user wrote it, with what is known of it."""

    key: str
    name: str
    kind: str
    found: Any
    details: ErrorDetails
    field: FieldInfo | None
    holder: Any
    annotation: Any

    @classmethod
    def of(cls, model: Any, details: ErrorDetails, section: str) -> _Wrong:
        parts, field, holder, annotation = _walk(model, details["loc"])
        key = ".".join(filter(None, [section, *parts]))
        name = parts[-1] if parts else ""
        found = details.get("input")
        return cls(key, name, details["type"], found, details, field, holder, annotation)

    @property
    def message(self) -> str:
        """What one of our own checks said."""
        text = self.details["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
        return text[:1].lower() + text[1:]

    @property
    def about(self) -> str:
        """What the key is for, in brackets."""
        text = self.field.description if self.field is not None else None
        return f" ({text})" if text else ""

    @property
    def row(self) -> str:
        """What a list of a fixed number of entries is, empty where it is none."""
        for one in (self.annotation, self.holder):
            arguments = get_args(one) if get_origin(one) is tuple else ()
            if arguments and Ellipsis not in arguments:
                return f"a list of {len(arguments)} entries"
        return ""

    @property
    def expected(self) -> str:
        """What the key should have held."""
        if self.kind in ("tuple_type", "too_long", "too_short") and self.row:
            return self.row
        context: Mapping[str, Any] = self.details.get("ctx") or {}
        if self.kind in EXPECTED:
            return EXPECTED[self.kind]
        if self.kind in BOUNDS:
            word, name = BOUNDS[self.kind]
            return f"a number {word} {context[name]:g}"
        if self.kind in ("literal_error", "enum"):
            return str(context["expected"]).replace("'", "")
        if self.kind in ("string_too_short", "string_too_long", "too_short", "too_long"):
            return _expected_length(self.kind, context)
        if self.kind == "string_pattern_mismatch" and self.name == "cpu":
            return "a number of cores, such as 2 or 500m"
        if self.kind == "string_pattern_mismatch":
            return "letters, digits and _ . + - (a letter or digit first)"
        text = self.message  # of a type of a plug-in, that we do not use ourselves
        for start in ("input should be a valid ", "input should be ", "value is not a valid "):
            text = text.removeprefix(start)
        return text

    @property
    def advice(self) -> str:
        """What helps, where that is known."""
        found = self.found
        context: Mapping[str, Any] = self.details.get("ctx") or {}
        is_list = self.kind in ("tuple_type", "list_type") and not self.row
        if is_list and self._may_be_in_list(found):
            return f"write [{found}]"
        if self.kind == "string_type" and isinstance(found, bool | int | float):
            return f'write it in quotes, "{short(found)}"'
        bound = context.get("lt", context.get("le"))
        if bound == 1 and isinstance(found, int | float) and 1 <= found <= 100:
            return f"a share of {found:g} % is written {found / 100:g}"
        return ""

    def _may_be_in_list(self, found: Any) -> bool:
        """Return whether a value is of the kind of the entries of the list that was expected."""
        entries = _inside(self.annotation, 0)
        kinds = {_plain(kind) for kind in _options(entries) or [entries]}
        if any(get_origin(kind) is Literal and found in get_args(kind) for kind in kinds):
            return True
        if isinstance(found, str):
            return bool(kinds & {str, Any})
        return isinstance(found, int | float) and bool(kinds & {int, float, Any})


def _expected_length(kind: str, context: Mapping[str, Any]) -> str:
    what = "text" if kind.startswith("string") else "a list"
    each = "character" if kind.startswith("string") else "entry"
    low, high = context.get("min_length"), context.get("max_length")
    n = low if low is not None else high
    plural = each if n == 1 else {"character": "characters", "entry": "entries"}[each]
    return f"{what} of at {'least' if low is not None else 'most'} {n} {plural}"


def _walk(model: Any, place: Sequence[int | str]) -> tuple[list[str], FieldInfo | None, Any, Any]:
    """Return the parts of a key without what pydantic adds, the field, its holder and its type.

    ``place`` has a tag where a key may be of several kinds; it is no part of the key.
    """
    parts: list[str] = []
    current, field, holder = model, None, model
    for part in place:
        current = _plain(current)
        options = _options(current)
        if len(options) > 1:  # the part names one of them
            current = _option(options, str(part))
            continue
        fields = getattr(current, "model_fields", {})
        holder = current
        field = fields.get(part)
        parts.append(str(part))
        current = field.annotation if field is not None else _inside(current, part)
    return parts, field, holder, _plain(current)


def _plain(annotation: Any) -> Any:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    options = _options(annotation)
    return _plain(options[0]) if len(options) == 1 else annotation


def _options(annotation: Any) -> list[Any]:
    """Return the kinds of a union, nothing (None) left out; empty where it is none."""
    if get_origin(annotation) not in (Union, types.UnionType):
        return []
    return [kind for kind in get_args(annotation) if kind is not type(None)]


def _option(options: Sequence[Any], tag: str) -> Any:
    for option in options:
        plain = _plain(option)
        if tag in (getattr(plain, "__name__", ""), *_tags(option)):
            return plain
    # the last words of a tag such as function-before[check(), Kind]
    named = [o for o in map(_plain, options) if getattr(o, "__name__", "?") in tag]
    return named[0] if named else options[0]


def _tags(option: Any) -> list[str]:
    return [str(m.tag) for m in getattr(option, "__metadata__", ()) if hasattr(m, "tag")]


def _inside(annotation: Any, part: int | str) -> Any:
    """Return what the entries of a list, or the values of a mapping, are."""
    arguments = [a for a in get_args(annotation) if a is not Ellipsis]
    if isinstance(part, int) and arguments:
        is_row = get_origin(annotation) is tuple and Ellipsis not in get_args(annotation)
        return arguments[part] if is_row and part < len(arguments) else arguments[0]
    return arguments[-1] if arguments else Any


def _known_keys(model: Any) -> list[str]:
    return sorted(getattr(model, "model_fields", ()))
