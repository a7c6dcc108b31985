"""Whatever is submitted, done or cancelled: each task is sent once, the heaviest first, within the bounds."""

from __future__ import annotations

from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from quakegrid.session import task_window as subject
from quakegrid.session.task_window import TaskWindow

LIMIT, FEW, BYTES = 6, 3, 100


class TaskWindowMachine(RuleBasedStateMachine):
    """A driver beside a plain list of what waits."""

    def __init__(self) -> None:
        super().__init__()
        limits = {"TASKS": LIMIT, "TASKS_PER_WORKER": 0, "BYTES": BYTES, "FEW_TASKS": FEW, "_MAX_LEFT": 3}
        self.patch = mock.patch.multiple(subject, **limits)
        self.patch.start()
        self.window = TaskWindow()
        self.waiting: dict[int, tuple[float, int]] = {}  # weight and bytes
        self.sent: dict[int, int] = {}
        self.count = 0

    def teardown(self) -> None:
        """Give the bounds back."""
        self.patch.stop()

    @rule(weight=st.sampled_from([1.0, 2.0, 5.0]), byte_count=st.integers(0, 60))
    def submit(self, weight: float, byte_count: int) -> None:
        """The program has one more task."""
        self.count += 1
        if self.window.is_open:
            assert not self.waiting
            self._send(self.count, byte_count)
        else:
            self.waiting[self.count] = weight, byte_count
            self.window.wait(self.count, weight)

    @rule(place=st.integers(0, 100), count=st.integers(1, 3))
    def end(self, place: int, count: int) -> None:
        """Some tasks have their outcomes or are cancelled, wherever they are."""
        for _ in range(count):
            known = [*self.sent, *self.waiting]
            if known:
                task_id = known[place % len(known)]
                self.window.end(task_id)
                self.sent.pop(task_id, None)
                self.waiting.pop(task_id, None)
        while (found := self.window.next()) is not None:
            weight, byte_count = self.waiting.pop(found)
            assert all((weight, -found) > (other, -number) for number, (other, _) in self.waiting.items())
            self._send(found, byte_count)

    def _send(self, task_id: int, byte_count: int) -> None:
        self.sent[task_id] = byte_count
        self.window.send(task_id, byte_count)

    @invariant()
    def agrees_with_the_list(self) -> None:
        """Nothing waits that could be sent; nothing is sent that could not be."""
        self.window.check()
        assert (self.window.sent_count, self.window.waiting_count) == (len(self.sent), len(self.waiting))
        assert len(self.sent) <= LIMIT
        assert sum(self.sent.values()) < BYTES + FEW * 60
        assert not (self.waiting and self.window.is_open)
        assert len(self.window._order) <= 2 * len(self.waiting) + LIMIT + 3


TestTaskWindow = TaskWindowMachine.TestCase
