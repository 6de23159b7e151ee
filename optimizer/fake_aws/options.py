"""How the fake cloud behaves beyond what its market says."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from simulator.errors import InputError


@dataclass(frozen=True)
class Options:
    """Delays, notices and unreliability; the defaults are instant and reliable, for tests.

    All seconds are seconds of the fake cloud's clock.

    Attributes:
        account: Account number.
        notice_queue: Queue that is there from the start in every region and gets every event.
        notice_seconds: From an interruption warning to the interruption, which falls on the tick at which
            the capacity is gone; 0 sends it with the interruption.
        rebalance_recall: Share of interruptions that a rebalance recommendation precedes.
        rebalance_precision: Share of rebalance recommendations that an interruption follows.
        rebalance_seconds: From a rebalance recommendation to the interruption.
        state_change_events: Whether every change of an instance's state is an event too.
        lost_share: Share of events that are never delivered.
        duplicate_share: Share of the others that are delivered twice.
        shuffle_events: Whether queues hand out messages in random order.
        boot_seconds: From launch to `running`.
        shutdown_seconds: From termination to `terminated`.
        forget_seconds: How long terminated instances can still be described.
        minimum_billed_seconds: For how long each instance is billed at least, however soon it ends; the rest
            at the price in force then.
        consistency_seconds: Age of what describe calls show.
        healing_seconds: From the loss of an instance of a group or fleet to its replacement, and between
            tries.
        rate_limits: Whether calls draw on request buckets like those of AWS (`fake_aws.limits`).
        seed: Of everything random.
    """

    account: str = "123456789012"
    notice_queue: str = "spotwise-notices"
    notice_seconds: float = 120.0
    rebalance_recall: float = 0.0
    rebalance_precision: float = 1.0
    rebalance_seconds: float = 300.0
    state_change_events: bool = False
    lost_share: float = 0.0
    duplicate_share: float = 0.0
    shuffle_events: bool = False
    boot_seconds: float = 0.0
    shutdown_seconds: float = 0.0
    forget_seconds: float = 3600.0
    minimum_billed_seconds: float = 0.0
    consistency_seconds: float = 0.0
    healing_seconds: float = 30.0
    rate_limits: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            InputError: A share lies outside [0, 1] or a delay is negative.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_seconds") and not 0 <= value <= 1e9:
                raise InputError(f"{field.name} {value}; accepted: 0 to 1e9 seconds")
            if field.name in _SHARES and not 0 <= value <= 1:
                raise InputError(f"{field.name} {value}; accepted: 0 to 1")
        if self.rebalance_precision == 0:
            raise InputError("rebalance_precision 0; accepted: above 0, at most 1")
        if self.healing_seconds <= 0:
            raise InputError("healing_seconds 0; accepted: above 0")

    @classmethod
    def like_aws(cls, **changes: object) -> Options:
        """Delays, rate limits and unreliable delivery as one meets them on AWS; `changes` come on top."""
        usual = cls(
            rebalance_recall=0.5,
            rebalance_precision=0.5,
            duplicate_share=0.01,
            shuffle_events=True,
            boot_seconds=30.0,
            shutdown_seconds=30.0,
            minimum_billed_seconds=60.0,
            consistency_seconds=2.0,
            rate_limits=True,
        )
        return replace(usual, **changes)  # type: ignore[arg-type]  # names and types are the caller's


_SHARES = frozenset({"rebalance_recall", "rebalance_precision", "lost_share", "duplicate_share"})
