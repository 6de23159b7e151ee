"""What a report promises about availability."""

from dataclasses import replace

import numpy as np
import pytest

from optimizer.recommend.run import Found
from optimizer.recommend.scenarios import sla_of
from optimizer.recommend.services import Case, Outcome
from optimizer.recommend.windows import Spans


def test_a_service_that_is_seldom_needed_says_less_about_what_was_never_seen(recommended: Found) -> None:
    one = next(j for j in recommended.judged if isinstance(j.subject.case, Case) and j.trials)
    outcome = one.trials["static-mix"].outcome
    assert isinstance(outcome, Outcome)
    case = one.subject.case
    assert isinstance(case, Case)
    windows = len(outcome.cost)
    perfect = replace(outcome, availability=np.ones(windows), allowance=np.ones(windows))
    spans = Spans(100.0, 8, 730.0)

    def missing(idle: float) -> float:
        rare = replace(case, idle=np.full(windows, idle))
        return 1.0 - sla_of(replace(one.subject, case=rare), perfect, spans).bound

    assert missing(0.0) > 0
    assert missing(0.75) == pytest.approx(4 * missing(0.0))
    assert missing(1.0) == 1.0
