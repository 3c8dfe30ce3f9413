"""Settings of single categories from the command line, ``key=value`` with values as YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from calib.documents import yaml_values
from calib.errors import InputError


def edited(
    recorded: Mapping[str, Mapping[str, Any]],
    category: str | None,
    settings: Sequence[str],
    reset: bool = False,
) -> dict[str, dict[str, Any]]:
    """Return the edits after a command.

    Parameters
    ----------
    recorded : mapping of category to mapping of key to value
        As they are.
    category : str or None
        Whose settings these are.
    settings : sequence of str
        ``key=value``, values as YAML.
    reset : bool
        Whether those of the category are taken back first.

    Returns
    -------
    dict of category to dict of key to value
        A new one.

    Raises
    ------
    InputError
        If a setting is not ``key=value``, or no category is named for it.
    """
    edits = {name: dict(values) for name, values in recorded.items()}
    if category is None:
        if settings or reset:
            option = "--set" if settings else "--reset"
            raise InputError(
                f"option {option}: a setting belongs to one category; add --category NAME"
            )
        return edits
    own = {} if reset else edits.get(category, {})
    for setting in settings:
        key, value = _parsed(setting)
        own[key] = value
    edits[category] = own
    if not own:
        del edits[category]
    return edits


def _parsed(setting: str) -> tuple[str, Any]:
    key, equals, text = setting.partition("=")
    if not key.strip() or not equals:
        raise InputError(f"option --set: found {setting!r}, expected key=value; correct it")
    try:
        return key.strip(), yaml_values(text)
    except ValueError as error:
        raise InputError(
            f"option --set: the value of {key.strip()!r} is {text!r}, which is not YAML ({error});"
            " write a number, a word or a list such as [82, 98]"
        ) from None
