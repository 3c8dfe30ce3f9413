"""Ready-made schedules of a nightly: a systemd timer, a line for cron, a CronJob of Kubernetes.

One nightly at a time per store is kept by the nightly itself; a schedule only starts it.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined

from calib.errors import InputError

if TYPE_CHECKING:
    from jobs.nightly.settings import Nightly

KINDS: dict[str, tuple[str, ...]] = {
    "systemd": ("service", "timer"),
    "cron": ("crontab",),
    "kubernetes": ("cronjob.yaml",),
}

LONGEST = 52
"""Characters of the name of a CronJob."""


def schedule_of(
    kind: str, settings: Nightly, config: Path, at: str, image: str = ""
) -> dict[str, str]:
    """Return the files of a schedule, by name.

    Parameters
    ----------
    kind : str
        systemd, cron or kubernetes.
    settings : Nightly
    config : Path
        Of the nightly, absolute.
    at : str
        ``HH:MM``, UTC.
    image : str
        Of the container.

    Raises
    ------
    InputError
        If there is no such kind, or this is no time of day.
    """
    if kind not in KINDS:
        raise InputError(f"option --schedule: found {kind!r}; give one of {', '.join(KINDS)}")
    found = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", at)
    if found is None:
        raise InputError(f"option --at: found {at!r}, expected a time of day such as 04:30")
    if kind == "kubernetes" and not re.fullmatch(r"[\w][\w./:@-]{0,254}", image):
        raise InputError(f"option --image: found {image!r}, expected the name of an image")
    if any(ord(c) < 32 for c in f"{config}"):
        raise InputError(f"{str(config)!r}: a name with control characters; rename it")
    values = {
        "name": settings.name,
        "config": str(config),
        "folder": str(config.parent),
        "hour": int(found[1]),
        "minute": int(found[2]),
        "image": image,
        "label": label(settings.name),
        "store": settings.store,
        "directory": settings.directory,
        "program": program(),
        "secrets": secrets(settings),
    }
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"systemd": systemd, "cron": cron, "yaml": quoted}
    folder = files("jobs") / "nightly" / "schedules"
    return {
        f"calib-{settings.name}.{part}": environment.from_string(
            (folder / f"{part}.in").read_text(encoding="utf-8")
        ).render(values)
        for part in KINDS[kind]
    }


def program() -> tuple[str, ...]:
    """Return how `calib` is started where nobody has set a PATH."""
    beside = Path(sys.executable).parent / "calib"
    if beside.is_file():
        return (str(beside),)
    found = shutil.which("calib")
    return (found,) if found else (sys.executable, "-m", "jobs.cli")


def secrets(settings: Nightly) -> tuple[str, ...]:
    """Return the environment variables that notifications need."""
    names: list[str] = []
    for wanted in settings.notify:
        names += [*filter(None, [wanted.webhook_env]), *wanted.headers_env.values()]
    return tuple(dict.fromkeys(names))


def label(name: str) -> str:
    """Return a name as Kubernetes takes it."""
    found = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return f"calib-{found}"[:LONGEST].rstrip("-")


def systemd(words: str | tuple[str, ...]) -> str:
    """Return words as a unit file takes them: quoted, without specifiers or variables."""
    single = isinstance(words, str)
    out = []
    for word in (words,) if single else words:
        text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
        if not single:
            text = text.replace("$", "$$")
        out.append(f'"{text}"' if re.search(r"[\s'\"\\;]", text) and not single else text)
    return " ".join(out)


def cron(words: str | tuple[str, ...]) -> str:
    """Return words as a line of a crontab takes them: quoted, % is the end of a line there."""
    return shlex.join((words,) if isinstance(words, str) else words).replace("%", "\\%")


def quoted(text: str) -> str:
    """Return a string as YAML in double quotes."""
    import json

    return json.dumps(str(text))
