"""What every part of the configuration is made of: frozen models, and no secrets in them."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict

SECRET = re.compile(
    r"^[a-z0-9+.-]+://[^/@]*:[^/@]*@"
    r"|[?&](authz|access_token|token|password|passwd|secret|key|sig|signature|"
    r"x-amz-[a-z-]*(signature|credential|token))=",
    re.IGNORECASE,
)


def refuse_secrets(address: str) -> None:
    """Raise ValueError for an address with a password or a token in it.

    Addresses are written into config.yaml, provenance.json, logs and the report.
    """
    if SECRET.search(address):
        raise ValueError(
            "an address with a password or a token in it, which every file of the run would show;"
            " give it in the environment (BEARER_TOKEN, AWS_..., FSSPEC_...)"
        )


class Strict(BaseModel):
    """A part of the configuration: frozen, refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
