"""When a driver gives up a broker that it cannot reach."""

from __future__ import annotations

from quakegrid.session.broker_patience import BrokerPatience
from quakegrid.session.options import Patience

PATIENCE = Patience(broker_s=60.0, open_s=30.0)


def test_calculation_waits_for_a_first_answer_and_longer_for_a_broker_that_it_knew() -> None:
    """Until then it tries again."""
    patience = BrokerPatience(PATIENCE, is_calculation=True)

    assert patience.lose(100.0, was_reached=False, is_known=False)
    assert not patience.lose(129.9, was_reached=False, is_known=False)
    assert not patience.is_over(129.9)
    assert patience.is_over(130.0)
    assert patience.lose(200.0, was_reached=True, is_known=True)
    assert not patience.is_over(259.9)
    assert patience.is_over(260.0)


def test_other_program_does_not_wait_for_a_first_answer() -> None:
    """It is told at once that there is no broker, but waits for one that was there."""
    patience = BrokerPatience(PATIENCE, is_calculation=False)

    patience.lose(100.0, was_reached=False, is_known=False)

    assert patience.is_over(100.0)
    patience.lose(100.0, was_reached=True, is_known=True)
    assert not patience.is_over(159.9)
