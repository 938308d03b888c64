"""One file a flavor; whatever is here joins both suites. Each has `FLAVOR`, an object of a class of tests/conformance/flavor.py."""
from __future__ import annotations

import importlib
import pkgutil

from tests.conformance.flavor import Flavor


def flavors() -> list[Flavor]:
    """In the order of their names, but those that need nothing first."""
    found = [importlib.import_module(f"{__name__}.{module.name}").FLAVOR for module in pkgutil.iter_modules(__path__)]
    return sorted(found, key=lambda flavor: (flavor.name not in ("fake", "local"), flavor.name, flavor.variant))
