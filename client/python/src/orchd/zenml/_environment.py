"""The environment of ZenML's steps: what may be seen of it, and what travels as secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_SECRET = re.compile(
    r"ZENML_(.*(TOKEN|PASSWORD|API_KEY|CREDENTIALS?|SSL_KEY|USERNAME)$|(BACKUP_)?SECRETS_STORE_(?!TYPE$))"
)
_WITH_PASSWORD = re.compile(r"[a-z0-9+]+://[^/@]*@", re.IGNORECASE)
# Of the client's own process, and not for others.
_OWN = ("ZENML_CUSTOM_SOURCE_ROOT", "ZENML_ORCHD_RUN_ID", "ZENML_ORCHD_PATH", "ZENML_ORCHD_SOCKET")
# What libraries read when they are imported, which a worker has done already.
_AT_IMPORT = re.compile(
    r"(OMP|MKL|OPENBLAS|NUMEXPR|BLIS|VECLIB|CUDA|NVIDIA|TF|JAX|XLA|KERAS|TORCH|PYTORCH|HF|TRANSFORMERS|PYTHON|LD)_?"
)


def is_secret(name: str, value: str) -> bool:
    """A credential, or an address with one in it."""
    return bool(_SECRET.match(name)) or (name.startswith("ZENML_") and bool(_WITH_PASSWORD.match(value)))


def split(environment: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """What can be written into a pipeline, and the secrets."""
    plain: dict[str, str] = {}
    secret: dict[str, str] = {}
    for name, value in environment.items():
        (secret if is_secret(name, value) else plain)[name] = value
    return plain, secret


def of_client() -> dict[str, str]:
    """Where this process's ZenML keeps its things, and how it was told to behave."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith("ZENML_") and name not in _OWN and not is_secret(name, value)
    }


def needs_fresh_process(environment: Mapping[str, str]) -> bool:
    """True if libraries read it when they are imported."""
    return any(_AT_IMPORT.match(name) for name in environment)
