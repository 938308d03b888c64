"""Stock ZenML pipelines on orchd: the orchestrator flavor `orchd`.

    python -m orchd.zenml setup

registers the flavor, an orchestrator and a stack, and makes that the active one; docs/zenml.md tells the rest.
"""

from __future__ import annotations

from ._versions import check as _check

_check()

from ._settings import OrchdOrchestratorConfig, OrchdOrchestratorSettings  # noqa: E402
from .flavor import OrchdOrchestratorFlavor  # noqa: E402

# Where ZenML finds it, whatever file it is written in.
OrchdOrchestratorFlavor.__module__ = __name__

__all__ = ["OrchdOrchestratorConfig", "OrchdOrchestratorFlavor", "OrchdOrchestratorSettings"]
