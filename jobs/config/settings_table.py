"""All settings as one page of tables, made from the schemas: docs/settings.md."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from calib import calibrations
from calib.errors import InputError
from jobs.config.chain import Chain
from jobs.config.schema import Config
from jobs.config.template import choices, on_one_line, plain
from jobs.storage.files import write_text

START = """# All settings

Made from the schemas by `calib init docs/settings.md --table`; a test holds it to them. Unknown
keys are errors that name the nearest known one. `x[].y` is key `y` of each entry of the list `x`; a
key without a default must be given. `calib init` writes the same as a commented configuration.
"""

HEAD = "| key | default | may be | meaning |\n|---|---|---|---|"
KINDS = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def write_table(path: Path) -> None:
    """Write the page.

    Raises
    ------
    InputError
        If it is not to be a page of Markdown.
    """
    if path.suffix != ".md":
        raise InputError(f"{path}: a page of tables is Markdown; name it *.md")
    write_text(path, table())


def table() -> str:
    """Return the page: the configuration, each calibration, chains, the nightly."""
    from jobs.nightly.settings import Nightly

    parts = [START, _section("The configuration", Config, "", ("settings",))]
    for name in calibrations.available():
        kind = calibrations.get(name)
        if kind.__module__.startswith(calibrations.__name__):  # not those of other packages
            parts.append(_section(f"Settings of {name}", kind.Settings, "settings."))
    parts.append(_section("A chain of calibrations", Chain, "", tuple(Config.model_fields)))
    parts.append(_section("The nightly", Nightly, "", ("cluster",)))
    return "\n".join(parts)


def _section(title: str, model: type[BaseModel], before: str, leave: tuple[str, ...] = ()) -> str:
    rows = [row for key, row in _rows(model, before) if key.split(".")[0].rstrip("[]") not in leave]
    return "\n".join([f"## {title}\n", HEAD, *rows, ""])


def _rows(model: type[BaseModel], before: str) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        inner, many = _inner(field.annotation)
        key = f"{before}{name}"
        default = field.get_default(call_default_factory=True)
        own = default if isinstance(default, BaseModel) else None
        if own is None:
            cells = (f"`{key}`", _default(field), _allowed(field), field.description or "")
            yield key, "| " + " | ".join(_cell(c) for c in cells) + " |"
        if inner is not None:
            shown = type(own) if own is not None else inner
            yield from _rows(shown, f"{key}{'[]' if many else ''}.")


def _inner(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """Return the model in an annotation, and whether there may be many of it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    many = typing.get_origin(annotation) in (tuple, list)
    for part in typing.get_args(annotation):
        found, deeper = _inner(part)
        if found is not None:
            return found, many or deeper
    return None, False


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "–"
    value = plain(field.get_default(call_default_factory=True))
    if value is PydanticUndefined:
        return "–"
    text = on_one_line(value)
    return f"`{text}`" if len(text) <= 60 else f"`{text[:50]} ...`"


def _allowed(field: FieldInfo) -> str:
    words = choices(field.annotation)
    kinds = [KINDS[k] for k in KINDS if k in _types(field.annotation)]
    found = [*(w.strip() for w in words.split("|") if w.strip()), *kinds]
    bounds = [
        f"{sign} {getattr(rule, name)}"
        for rule in field.metadata
        for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
        if getattr(rule, name, None) is not None
    ]
    text = ", ".join(dict.fromkeys(found))
    if text and _is_list(field.annotation):
        text = f"list of: {text}"
    return f"{text} {' and '.join(bounds)}".strip() if bounds else text


def _is_list(annotation: Any) -> bool:
    if typing.get_origin(annotation) in (tuple, list):
        return True
    parts = typing.get_args(annotation) if typing.get_origin(annotation) is not dict else ()
    return any(_is_list(part) for part in parts)


def _types(annotation: Any) -> set[Any]:
    """Return the plain types in an annotation, also those of the entries of a list."""
    if typing.get_origin(annotation) in (typing.Literal, dict):
        return set()
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return {annotation}
    return {found for part in typing.get_args(annotation) for found in _types(part)}


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
