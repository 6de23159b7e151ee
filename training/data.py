"""The markets of a training run: those to train on, and what is held out of them or given to evaluate on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from simulator.errors import InputError
from simulator.market import Market
from training.config import EvaluationSettings
from training.held_out import HeldOut, split

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Data:
    """What is trained and evaluated on.

    Attributes:
        markets: To train on, and without `evaluation` also to hold out from.
        sha256: Hash of every file, by name; goes into bundle, checkpoint and tracking.
        evaluation: Markets to evaluate on instead of the ends of `markets`.
    """

    markets: Sequence[Market]
    sha256: Mapping[str, str] = field(default_factory=dict)
    evaluation: Sequence[Market] | None = None

    def parts(self, settings: EvaluationSettings, together: bool = False) -> tuple[list[Market], HeldOut]:
        """The markets to train on, and the windows to evaluate on: each pool alone, or all `together`.

        Raises:
            InputError: A job that is evaluated does not fit the markets.
        """
        jobs = [job.job() for job in settings.jobs]

        def held_out(markets: Sequence[Market]) -> HeldOut:
            if self.evaluation is None:
                markets = split(markets, settings.holdout_share)[1]
            return HeldOut(markets, jobs, settings.stride_hours, together=together)

        windows = self.blaming(held_out, self.markets if self.evaluation is None else self.evaluation)
        if self.evaluation is None:
            return split(self.markets, settings.holdout_share)[0], windows
        return list(self.markets), windows

    def blaming(self, make: Callable[[Sequence[Market]], Made], markets: Sequence[Market]) -> Made:
        """What `make` makes of all of `markets`, these or those to evaluate on.

        Raises:
            InputError: From `make`; the message begins with the file of the first market that is refused
                when it is alone, if the files are known.
        """
        try:
            return make(markets)
        except InputError:
            names = list(self.sha256)
            names = names[len(self.markets) :] if markets is self.evaluation else names
            for name, market in zip(names, markets, strict=False):
                try:
                    make([market])
                except InputError as error:
                    raise InputError(f"{name}: {error}") from error
            raise
