"""What can be configured: of the component, and of steps and pipelines."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from zenml.config.base_settings import BaseSettings
from zenml.orchestrators import BaseOrchestratorConfig
from zenml.utils.secret_utils import SecretField


class OrchdOrchestratorSettings(BaseSettings):
    """Settings of a step or a pipeline, under the key `orchestrator`."""

    orchestrator: str | None = Field(
        default=None, description="The daemon's orchestrator to run on: a name of `orchctl list-orchestrators`."
    )
    isolation: Literal["worker", "shared", "process"] = Field(
        default="worker",
        description="`worker`: a fork of a process that has imported ZenML; `shared`: one that steps of the same run "
        "take turns in, as in ZenML's `local`; `process`: a fresh one.",
    )
    synchronous: bool = Field(default=True, description="Of a pipeline: the call returns when the run has ended.")
    timeout: str | int | None = Field(
        default=None, description="How long an attempt of a step may run, as `10m` or in seconds."
    )
    run_timeout: str | int | None = Field(
        default=None, description="Of a pipeline: how long the run may take, as `2h` or in seconds."
    )
    max_parallelism: int | None = Field(
        default=None, ge=1, description="Of a pipeline: how many of its steps may run at a time."
    )
    priority: int = Field(default=0, ge=-1000, le=1000, description="Higher goes first among steps that are ready.")
    pools: dict[str, int] = Field(default={}, description="Slots of the daemon's pools that a step takes, by pool.")
    platform: dict[str, dict[str, Any]] = Field(
        default={}, description="Settings of the daemon's flavors, by flavor, as a step's `settings` in orchd has them."
    )


class OrchdOrchestratorConfig(BaseOrchestratorConfig, OrchdOrchestratorSettings):
    """Configuration of the component; each setting may be given here as the default of all pipelines."""

    server: str | None = Field(
        default=None, description="The daemon's address. Without it this user's own is found, or started."
    )
    token: str | None = SecretField(default=None, description="For `server`, if ORCH_TOKEN is not to be used.")
    ca: str | None = Field(default=None, description="File of the authority that signed the server's certificate.")
    data_dir: str | None = Field(
        default=None, description="The daemon's data directory, if it is not where a client looks for it."
    )
    worker_idle_seconds: int = Field(
        default=120, ge=1, description="A worker that nobody asks for so long ends; the next run starts another."
    )

    @property
    def is_local(self) -> bool:
        """Its steps see this machine's files, ZenML's SQLite store among them."""
        return True

    @property
    def is_synchronous(self) -> bool:
        return self.synchronous

    @property
    def is_schedulable(self) -> bool:
        return False

    @property
    def supports_client_side_caching(self) -> bool:
        """The daemon hears of each run, also of one whose steps are all in ZenML's cache, so that it has its URL."""
        return False
