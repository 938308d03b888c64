"""What ZenML knows of the flavor: its name, and where the rest is."""

from __future__ import annotations

from zenml.orchestrators import BaseOrchestrator, BaseOrchestratorConfig, BaseOrchestratorFlavor

from ._settings import OrchdOrchestratorConfig


class OrchdOrchestratorFlavor(BaseOrchestratorFlavor):
    """orchd, the daemon that owns the execution of ML pipelines."""

    @property
    def name(self) -> str:
        return "orchd"

    @property
    def display_name(self) -> str:
        return "orchd"

    @property
    def config_class(self) -> type[BaseOrchestratorConfig]:
        return OrchdOrchestratorConfig

    @property
    def implementation_class(self) -> type[BaseOrchestrator]:
        from .orchestrator import OrchdOrchestrator

        return OrchdOrchestrator
