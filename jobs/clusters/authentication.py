"""Who we are for a gateway: the secret from where the configuration says, never from it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from calib.errors import InputError
from jobs.config.cluster import Auth


def authentication(auth: Auth | None) -> Any:
    """Return what identifies us; None, where nothing is configured: as Dask's own files say.

    Raises
    ------
    InputError
        If the variable or the file that should hold a secret has none.
    """
    from dask_gateway.auth import BasicAuth, JupyterHubAuth, KerberosAuth

    if auth is None:
        return None
    if auth.kind == "basic":
        return BasicAuth(auth.user, _secret("password", auth.password_env, auth.password_file))
    if auth.kind == "jupyterhub":
        return JupyterHubAuth(_secret("token", auth.token_env, auth.token_file))
    try:
        import kerberos  # noqa: F401
    except ImportError:
        raise InputError(
            "key 'cluster.auth.kind': kerberos needs the package kerberos; pip install kerberos,"
            " and kinit"
        ) from None
    return KerberosAuth()


def _secret(what: str, variable: str, file: str | None) -> str:
    if file is not None:
        try:
            return Path(file).read_text(encoding="utf-8").rstrip("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"key 'cluster.auth.{what}_file': {file} cannot be read"
                f" ({type(error).__name__}); correct the path or its permissions"
            ) from None
    found = os.environ.get(variable)
    if not found:
        raise InputError(
            f"key 'cluster.auth.{what}_env': the variable {variable} is not set; put the {what}"
            f" into it, or name a file with {what}_file"
        )
    return found


def who(auth: Auth | None) -> str:
    """Return as whom we ask."""
    if auth is None or auth.kind != "basic":
        return "us"
    return f"user {auth.user!r}" if auth.user else "us"


def secret_place(auth: Auth | None) -> str:
    """Return what is to be corrected where we are refused, without saying it."""
    if auth is None:
        return "it: none is configured (basic, jupyterhub or kerberos)"
    if auth.kind == "kerberos":
        return "the ticket (kinit)"
    what = "password" if auth.kind == "basic" else "token"
    file = getattr(auth, f"{what}_file")
    return f"the {what} in {file or '$' + getattr(auth, f'{what}_env')}"
