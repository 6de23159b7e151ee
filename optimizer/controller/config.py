"""What `configs/controller.yaml` may say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Mode = Literal["dry-run", "shadow", "canary", "apply"]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SimulatedSettings(_Settings):
    """The simulator's kernels as a cloud.

    Attributes:
        market: Market file, or several of one tick; several begin together and end with the shortest.
        seconds_per_tick: Real seconds per tick; 0 = as fast as it goes.
        begins: When the market's first tick is: as it was recorded, or at the first whole tick after the plan
            was created, so that a plan of today can be rehearsed on a market of last year.
    """

    market: Path | tuple[Path, ...]
    seconds_per_tick: float = Field(default=0.0, ge=0, le=3600)
    begins: Literal["market", "plan"] = "plan"


class LaunchSettings(_Settings):
    """How instances of a workload are made on AWS.

    Attributes:
        template: Launch template, name or id (`lt-...`).
        version: Its version.
        subnets: Subnet by zone; a zone without one gets the default subnet.
        via: The call that launches; `fleet` is an EC2 Fleet of type instant.
    """

    template: str = Field(min_length=3, max_length=128)
    version: str = Field(default="$Default", min_length=1, max_length=20)
    subnets: dict[str, str] = Field(default_factory=dict)
    via: Literal["run-instances", "fleet"] = "run-instances"


class AwsSettings(_Settings):
    """AWS; credentials come from boto3's usual places, the endpoint from AWS_ENDPOINT_URL.

    Attributes:
        queue_url: SQS queue that EventBridge sends interruption warnings and rebalance recommendations to.
        queue_region: Its region.
        launch: How instances are made, by workload name; `default` for the others.
        calls_per_second: Of all calls together.
        call_burst: Calls that may leave at once.
        patience_seconds: A call that is throttled or unanswered is tried this long.
        capacity_memory_seconds: A pool that had no capacity is not believed to have any for this long;
            doubles with each failure in a row.
    """

    queue_url: str | None = Field(default=None, max_length=500)
    queue_region: str | None = Field(default=None, max_length=40)
    launch: dict[str, LaunchSettings] = Field(default_factory=dict)
    calls_per_second: float = Field(default=10.0, gt=0, le=1000)
    call_burst: int = Field(default=20, ge=1, le=10_000)
    patience_seconds: float = Field(default=20.0, ge=0, le=600)
    capacity_memory_seconds: float = Field(default=300.0, ge=0, le=86_400)


class ProviderSettings(_Settings):
    """Which cloud."""

    kind: Literal["simulated", "aws"]
    simulated: SimulatedSettings | None = None
    aws: AwsSettings | None = None

    @model_validator(mode="after")
    def _settings_of_the_kind(self) -> ProviderSettings:
        if getattr(self, self.kind) is None:
            raise ValueError(f"provider {self.kind} needs its settings under `{self.kind}`")
        return self


class GuardSettings(_Settings):
    """Limits beside the plan's caps; each names itself in the journal when it changes a decision.

    Attributes:
        launches_per_tick: Instances; the lower of this and the plan's cap holds.
        terminations_per_tick: The same for terminations.
        usd_per_hour: The same for the cost rate.
        budget_usd_per_day: Spend of the last 24 h above which only moves that cost no more, and those that a
            deadline needs, are made.
        max_pool_share: Largest share of a service's spot instances in one pool, where it has several pools.
        cooldown_seconds: Time after a voluntary move in which a workload is not moved again voluntarily.
        launches_per_hour: Instances per workload and hour, as a multiple of what it holds at most.
        keep_ready: Ready instances are not given up while that would leave a service short.
    """

    launches_per_tick: int | None = Field(default=None, ge=0)
    terminations_per_tick: int | None = Field(default=None, ge=0)
    usd_per_hour: float | None = Field(default=None, gt=0)
    budget_usd_per_day: float | None = Field(default=None, gt=0)
    max_pool_share: float = Field(default=1.0, gt=0, le=1)
    cooldown_seconds: float = Field(default=0.0, ge=0, le=86_400)
    launches_per_hour: float | None = Field(default=None, gt=0)
    keep_ready: bool = True


class Freshness(_Settings):
    """Age above which data no longer decides anything, and prices that are not believed.

    Attributes:
        prices_seconds: Age of a spot price.
        highest_price_ratio: A spot price above this many times on-demand is an error, not a price.
        lowest_price_ratio: One below this share of on-demand is an error too.
        clock_jump_seconds: A wall clock that moves by more than this against a steady one has jumped.
    """

    prices_seconds: float = Field(default=3600.0, gt=0)
    highest_price_ratio: float = Field(default=20.0, gt=1)
    lowest_price_ratio: float = Field(default=0.01, ge=0, lt=1)
    clock_jump_seconds: float = Field(default=30.0, gt=0)


class CanarySettings(_Settings):
    """Canary mode.

    Attributes:
        share: Share of the workloads.
        hours: After this it is judged.
        most_cost_ratio: It is rolled back if it cost more than this times the same on on-demand capacity.
    """

    share: float = Field(default=0.05, gt=0, le=1)
    hours: float = Field(default=24.0, gt=0)
    most_cost_ratio: float = Field(default=1.0, gt=0)


class EndpointSettings(_Settings):
    """Where status, metrics and the page are served.

    Attributes:
        enabled: Whether they are.
        host: Loopback unless you know why.
        port: 0 = any that is free; `status` finds it.
    """

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65_535)


class LeaseSettings(_Settings):
    """Several controllers of one name: the one with the lease acts, the others look on.

    Attributes:
        kind: Where it is: in a DynamoDB table, or in the journal's PostgreSQL.
        table: DynamoDB table with the partition key `name`.
        region: Its region.
        seconds: A leader that does not renew for so long is replaced; it renews every few seconds.
    """

    kind: Literal["dynamodb", "postgresql"] = "dynamodb"
    table: str | None = Field(default=None, min_length=3, max_length=255)
    region: str | None = Field(default=None, min_length=2, max_length=40)
    seconds: float = Field(default=120.0, ge=10, le=86_400)

    @model_validator(mode="after")
    def _table_of_the_kind(self) -> LeaseSettings:
        if self.kind == "dynamodb" and (self.table is None or self.region is None):
            raise ValueError("a lease in DynamoDB needs table and region; accepted: or kind: postgresql")
        if self.kind == "postgresql" and (self.table is not None or self.region is not None):
            raise ValueError(
                "table and region are of a lease in DynamoDB; accepted: kind: dynamodb with them"
            )
        return self


class JournalSettings(_Settings):
    """The journal.

    Attributes:
        kind: A SQLite file in `state_dir`, or PostgreSQL, which several controllers share.
        url: `postgresql://USER@HOST:PORT/DATABASE`; None = libpq's environment (PGHOST, PGSERVICE, ...). The
            password comes from PGPASSWORD, PGPASSFILE or ~/.pgpass and never from here.
        answer_seconds: PostgreSQL: a statement that takes longer has lost the connection.
        retention_days: Ticks, events and settled intents older than this go, and state of fleets that no plan
            has any more.
        backup_hours: SQLite: a copy is kept beside it, not older than this.
    """

    kind: Literal["sqlite", "postgresql"] = "sqlite"
    url: str | None = Field(default=None, max_length=500)
    answer_seconds: float = Field(default=10.0, gt=0, le=600)
    retention_days: float = Field(default=90.0, gt=0)
    backup_hours: float = Field(default=6.0, gt=0)

    @field_validator("url")
    @classmethod
    def _without_password(cls, url: str | None) -> str | None:
        if url is None:
            return url
        if not url.startswith(("postgresql://", "postgres://")):
            raise ValueError("accepted: postgresql://USER@HOST:PORT/DATABASE")
        address, _, options = url.partition("?")
        if ":" in address.partition("//")[2].rpartition("@")[0] or "password" in options.lower():
            raise ValueError(
                "no password here, it would end up in copies of this file; accepted: PGPASSWORD, PGPASSFILE "
                "or ~/.pgpass"
            )
        return url

    @model_validator(mode="after")
    def _url_of_the_kind(self) -> JournalSettings:
        if self.kind == "sqlite" and self.url is not None:
            raise ValueError("url is of a journal in PostgreSQL; accepted: kind: postgresql with it")
        return self


class ControllerSettings(_Settings):
    """The whole file.

    Attributes:
        name: Goes into the tag of everything it launches; two controllers need two names.
        mode: What it may do; the command line's `--mode` comes first.
        state_dir: Journal, token, kill switch.
        provider: Which cloud.
        guards: Limits.
        freshness: What data is believed.
        policy_seconds: A policy that takes longer is replaced by the safe baseline.
        grace_seconds: A new instance that the cloud does not show yet is believed in for this long.
        checkpoint_hook: Command that runs before a job is moved on purpose, its replacement being there; see
            `optimizer/controller/hook.py`.
        checkpoint_hook_seconds: It is ended after this long.
        canary: Canary mode.
        endpoint: Status and metrics.
        journal: The journal.
        lease: None = this is the only controller of its name; with a journal in PostgreSQL, a lease there.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")] = "spotwise"
    mode: Mode = "dry-run"
    state_dir: Path = Path(".spotwise/controller")
    provider: ProviderSettings
    guards: GuardSettings = GuardSettings()
    freshness: Freshness = Freshness()
    policy_seconds: float = Field(default=5.0, gt=0, le=600)
    grace_seconds: float = Field(default=120.0, ge=0, le=3600)
    checkpoint_hook: tuple[str, ...] | None = None
    checkpoint_hook_seconds: float = Field(default=60.0, gt=0, le=3600)
    canary: CanarySettings = CanarySettings()
    endpoint: EndpointSettings = EndpointSettings()
    journal: JournalSettings = JournalSettings()
    lease: LeaseSettings | None = None

    @model_validator(mode="after")
    def _a_shared_journal_has_one_leader(self) -> ControllerSettings:
        if self.lease is not None and self.lease.kind == "postgresql" and self.journal.kind != "postgresql":
            raise ValueError("a lease in PostgreSQL is in the journal's; accepted: journal.kind: postgresql")
        return self

    @property
    def leadership(self) -> LeaseSettings | None:
        """Where the lease is; a journal that can be shared always has one."""
        if self.lease is None and self.journal.kind == "postgresql":
            return LeaseSettings(kind="postgresql")
        return self.lease
