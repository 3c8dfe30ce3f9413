"""Tell people what happened: a command that gets JSON on its stdin, or a webhook.

Secrets stay in the environment. A notification that fails is said and does not stop the night.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from jobs.nightly.settings import Nightly, Notification
from jobs.nightly.states import State

log = logging.getLogger(__name__)


def message(settings: Nightly, night: Mapping[str, Any], wanted: Notification) -> dict[str, Any]:
    """Return what is sent, empty where nothing is to be said.

    ``text`` has a line an event, and one for each thing that waits for a person; the rest is for
    machines.
    """
    after = {s["calibration"]: s for s in night["calibrations"]}
    lines = [
        f"{settings.name} {s['calibration']}: {s['state']} - {s['why']}"
        for s in night["steps"]
        if s["state"] in wanted.on
    ]
    # what needs a person is said in every night, until somebody has done something
    told = {(s["calibration"], s["state"]) for s in night["steps"]}
    for name, s in after.items():
        needs = State(s["state"]).needs_person
        if needs and s["state"] in wanted.on and (name, s["state"]) not in told:
            lines.append(f"{settings.name} {name}: still {s['state']} - {s['why']}")
        for entry in s["aside"]:
            entered = (name, entry["state"]) in told
            if entry["state"] in wanted.on and not entered:
                runs = f"runs {entry['first']} to {entry['last']}"
                lines.append(
                    f"{settings.name} {name}: still {entry['state']}, {runs} - {entry['why']}"
                )
    if "trouble" in wanted.on:
        lines += [f"{settings.name}: {text}" for text in night["troubles"]]
    if not lines:
        return {}
    return {
        "nightly": settings.name,
        "night": night["night"],
        "exit_code": night["exit_code"],
        "text": "\n".join(lines),
        "page": night["page"],
        "calibrations": {
            name: {k: s[k] for k in ("state", "why", "judged", "since")}
            for name, s in after.items()
        },
    }


def tell(settings: Nightly, night: Mapping[str, Any]) -> list[str]:
    """Send what happened to everybody who wants it; return what went wrong."""
    problems = []
    for number, wanted in enumerate(settings.notify):
        sent = message(settings, night, wanted)
        if not sent:
            continue
        try:
            _send(wanted, json.dumps(sent, default=str).encode())
        except (
            OSError,
            subprocess.SubprocessError,
            urllib.error.URLError,
            KeyError,
            ValueError,
        ) as error:
            text = f"key 'notify.{number}': {_said(error)}"
            log.warning("%s", text)
            problems.append(text)
    return problems


def _send(wanted: Notification, data: bytes) -> None:
    if wanted.command is not None:
        subprocess.run(
            list(wanted.command),
            input=data,
            check=True,
            timeout=wanted.timeout,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        return
    address = wanted.webhook or _secret(str(wanted.webhook_env))
    if not address.startswith(("http://", "https://")):
        raise ValueError(f"variable {wanted.webhook_env} holds no address that begins with https")
    headers = {name: _secret(variable) for name, variable in wanted.headers_env.items()}
    request = urllib.request.Request(
        address, data=data, headers={"Content-Type": "application/json", **headers}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=wanted.timeout) as answer:
        answer.read(1)


def _secret(variable: str) -> str:
    if not os.environ.get(variable):
        raise KeyError(f"the environment variable {variable} is not set")
    return os.environ[variable]


def _said(error: Exception) -> str:
    """Return what went wrong, without an address: it may be the secret."""
    if isinstance(error, subprocess.CalledProcessError):
        words = " ".join((error.stderr or b"").decode(errors="replace").split())[:200]
        return f"the command ended with {error.returncode}{': ' + words if words else ''}"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"the command took longer than {error.timeout:g} s"
    if isinstance(error, urllib.error.HTTPError):
        return f"the webhook answered {error.code}"
    if isinstance(error, urllib.error.URLError):
        return f"the webhook cannot be reached ({error.reason})"
    if isinstance(error, KeyError):
        return str(error.args[0])
    return " ".join(str(error).split())[:200]
