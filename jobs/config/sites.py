"""Sites: small named files with the keys of ``cluster``, which a group shares.

``cluster: {site: lxplus, workers: 40}`` takes the rest from the file ``lxplus.yaml``. What the
configuration says itself goes before what the site says. A run keeps the result, not the name: it
means the same after the site's file has changed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calib.documents import MAX_YAML, yaml_values
from calib.errors import InputError
from jobs.config.cluster import Cluster

FILES = (
    ("security", "ca"),
    ("security", "cert"),
    ("security", "key"),
    ("auth", "password_file"),
    ("auth", "token_file"),
)
"""Keys whose values are files of this machine."""


def with_site(values: Any, base: Path, where: str) -> Any:
    """Return the values of a configuration with those of its site in ``cluster``.

    Parameters
    ----------
    values : mapping
        A configuration as it was read; anything else comes back as it is, for the schema to refuse.
    base : Path
        Folder that names of files in ``cluster`` are relative to.
    where : str
        What a refusal calls the configuration.

    Returns
    -------
    mapping
        Without ``site``.

    Raises
    ------
    InputError
        If the site is not found, or its file does not fit the schema.
    """
    own = values.get("cluster") if isinstance(values, Mapping) else None
    if not isinstance(own, Mapping):
        return values
    own = absolute(own, base)
    name = own.get("site")
    if name is None:
        return {**values, "cluster": own}
    if not isinstance(name, str) or not name:
        raise InputError(f"{where}: key 'cluster.site': found {name!r}, expected a file or a name")
    path = find(name, base, f"{where}: key 'cluster.site'")
    merged = merge(read(path), {k: v for k, v in own.items() if k != "site"})
    return {**values, "cluster": merged}


def absolute(cluster: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """Return the keys with the names of files made absolute.

    Parameters
    ----------
    cluster : mapping
        The key ``cluster``.
    base : Path
        Folder that names of files are relative to.

    Returns
    -------
    dict
        A new one.
    """
    found = dict(cluster)
    for part, key in FILES:
        inner = found.get(part)
        if isinstance(inner, Mapping) and isinstance(inner.get(key), str):
            path = str(base / Path(inner[key]).expanduser())
            found[part] = {**inner, key: path}
    return found


def folders() -> list[Path]:
    """Return where sites are looked up by name: $DIMUCAL_SITES, then the user's own."""
    named = os.environ.get("DIMUCAL_SITES", "").split(os.pathsep)
    config = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    return [Path(n).expanduser() for n in named if n] + [config / "dimucal" / "sites"]


def find(name: str, base: Path, where: str) -> Path:
    """Return the file of a site: a path relative to ``base``, or a name in the known folders.

    Parameters
    ----------
    name : str
        Of the site, or a path.
    base : Path
        Folder that a path is relative to.
    where : str
        What a refusal calls the configuration.

    Returns
    -------
    Path
        That is there.

    Raises
    ------
    InputError
        If there is none; the sentence says where it was looked for, and which there are.
    """
    places = [base / Path(name).expanduser()]
    if "/" not in name:
        endings = ("",) if name.endswith((".yaml", ".yml")) else (".yaml", ".yml")
        places += [folder / f"{name}{ending}" for folder in folders() for ending in endings]
    for place in places:
        if place.is_file():
            return place
    known = sorted({p.stem for f in folders() if f.is_dir() for p in f.glob("*.y*ml")})
    raise InputError(
        f"{where}: found {name!r}, but there is no such file ({', '.join(map(str, places))});"
        f" known names: {', '.join(known) or 'none'}; correct it, or set DIMUCAL_SITES to the"
        " folder of your group"
    )


def read(path: Path) -> dict[str, Any]:
    """Return the keys in the file of a site, checked against the schema.

    Raises
    ------
    InputError
        If it cannot be read, or has a key or a value that ``cluster`` has not.
    """
    from calib.schema import validated

    try:
        if path.stat().st_size > MAX_YAML:
            raise InputError(f"{path}: more than {MAX_YAML} bytes; expected the file of a site")
        values = yaml_values(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); expected a YAML file") from None
    except ValueError as error:
        text = " ".join(str(error).split())
        raise InputError(f"{path}: not valid YAML ({text}); correct it") from None
    if isinstance(values, Mapping) and values.get("site") is not None:
        raise InputError(f"{path}: key 'site': a site takes nothing from another; remove it")
    validated(Cluster, values, str(path))
    return absolute(values, path.resolve().parent)


def merge(site: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a site says with what the configuration says over it, key by key.

    Parameters
    ----------
    site, own : mapping
        What the site says, and what the configuration says.

    Returns
    -------
    dict
        A new one.
    """
    found = dict(site)
    for key, value in own.items():
        below = found.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            found[key] = merge(below, value)
        else:
            found[key] = value
    return found
