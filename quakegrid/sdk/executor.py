"""A `concurrent.futures.Executor` whose workers are the cluster's.

Fulfils the contract of executors; `sender` decides which calls travel together, and when.
"""

from __future__ import annotations

import atexit
import getpass
import itertools
import math
import os
import pickle
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from functools import cache, partial
from types import TracebackType
from typing import Any, ParamSpec, TypedDict, TypeVar, Unpack

from quakegrid import errors
from quakegrid.clients.broker import BrokerClient
from quakegrid.nodes import environment
from quakegrid.sdk import chunks
from quakegrid.sdk.answers.answers import CallAnswers
from quakegrid.sdk.answers.call_journal import CallJournal
from quakegrid.sdk.futures import LARGE_BYTES, SMALL_TYPES, CallFuture, LateFuture, in_order, visible_bytes
from quakegrid.sdk.progress import OnProgress
from quakegrid.sdk.sender import Sender, SenderState
from quakegrid.sdk.unsent import MAX_PENDING
from quakegrid.sdk.worker_setup import WorkerSetup
from quakegrid.session import worker_output
from quakegrid.session.options import Needs, SessionOptions
from quakegrid.session.session import Session
from quakegrid.settings import config
from quakegrid.settings.config import Settings

P = ParamSpec("P")
T = TypeVar("T")

_OPEN, _ENDED = SenderState.OPEN, SenderState.ENDED  # looked up for each call: members of an enum are slow
_senders: weakref.WeakSet[Sender] = weakref.WeakSet()


class ExecutorOptions(TypedDict, total=False):
    """The options of an executor; each has a default.

    Args:
        shows_output: whether what its workers print is printed here, with node and worker; True.
        cores_per_worker: cores that each worker should have, and threads of its numerical libraries; 1.
        on_progress: called with the counts of done and submitted calls, in a thread of the executor; None.
        weight: its part of the cores against this user's other executors and jobs, 0.01 to 100; 1.
        node_timeout_s: how long to wait for a node that is up; 60.
        max_pending: calls without a result, beyond which `submit` waits; 0 or None for no limit; 100,000.
        journal: name of a journal of this user: calls that were answered before return at once, also in
            another program; None for no journal. See `ClusterExecutor.forget` for what is the same call.
    """

    shows_output: bool
    cores_per_worker: int
    on_progress: OnProgress | None
    weight: float
    node_timeout_s: float
    max_pending: int | None
    journal: str | None


DEFAULTS = ExecutorOptions(
    shows_output=True,
    cores_per_worker=1,
    on_progress=None,
    weight=1.0,
    node_timeout_s=60.0,
    max_pending=MAX_PENDING,
    journal=None,
)


class ClusterExecutor(Executor):
    """Runs functions on the cluster; made by `Cluster.executor`.

    Args:
        settings: of the cluster.
        max_workers: workers at most; None for as many as the cluster gives.
        **options: see `ExecutorOptions`.
    Raises:
        PeerUnreachableError: the broker does not answer, or no node came up.
        UsageError: the weight is out of range.
        TypeError: there is no such option.
    """

    _journal: CallJournal | None = None

    def __init__(
        self, settings: Settings, max_workers: int | None = None, **options: Unpack[ExecutorOptions]
    ) -> None:
        chosen = _chosen(options)
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        self._journal = _open_journal(settings, chosen["journal"])
        with BrokerClient(settings) as broker:
            broker.wait_for_nodes(chosen["node_timeout_s"])
        session = _open_session(settings, max_workers or 0, chosen)
        most = max(1, session.core_count // chosen["cores_per_worker"])
        self.worker_count = min(max_workers or most, most)
        told, pending = chosen["on_progress"], chosen["max_pending"] or 0
        self._sender = Sender(session, self.worker_count, told, pending, self._journal)
        _senders.add(self._sender)
        weakref.finalize(self, self._sender.stop).atexit = False  # `_finish` waits, too

    @property
    def pending_count(self) -> int:
        """Calls without a result, wherever they are."""
        return self._sender.unsent.pending_count

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Send a call to the cluster; waits while too many calls have no result (`max_pending`).

        It does not wait in a callback of a future, nor in `on_progress`. Calls that wait together travel
        together; each has its own copy of its arguments. Large arrays among them are sent from where they
        are: leave them unchanged until the call is done.

        >>> executor.submit(pow, 2, 10).result()
        1024

        The result of a generator is the list of the values that it yields, all from one attempt.

        >>> def divisors(number):
        ...     yield from (divisor for divisor in range(1, number + 1) if number % divisor == 0)
        >>> executor.submit(divisors, 12).result()
        [1, 2, 3, 4, 6, 12]

        Raises:
            RuntimeError: the executor was shut down, or lost its session.
        """
        sender = self._sender
        future = CallFuture(sender.shared, fn, args, kwargs or None)
        if self._journal is not None:
            return sender.offer(None, future)
        if sender.state is not _OPEN or sender.unsent.is_full:
            sender.enter()
        for arg in args:
            if type(arg) not in SMALL_TYPES and visible_bytes(arg) >= LARGE_BYTES:
                sender.look_at(future)
                break
        else:
            if kwargs:
                sender.look_at(future)
        sender.queue.append(future)
        if sender.state is _ENDED:  # just now
            sender.fail_leftovers()
        elif sender.is_idle:
            sender.wake()
        return future

    def submit_weighted(
        self, weight: float, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """Send a call that is known to be long: it travels alone, and the heaviest start first.

        >>> futures = [executor.submit_weighted(size, sum, range(size)) for size in (10, 1000, 100)]
        >>> [future.result() for future in futures]
        [45, 499500, 4950]

        Args:
            weight: expected cost in any unit, > 0.
            fn: what to call.
            *args: its arguments.
            **kwargs: its keyword arguments.
        """
        if not weight > 0:
            raise ValueError(f"a weight must be greater than 0, not {weight!r}")
        return self._sender.offer(weight, CallFuture(self._sender.shared, fn, args, kwargs or None))

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Results of `fn` over the iterables, in order.

        All calls are submitted before it returns, as by any executor, which waits where `submit` does. With a
        `buffersize` they are submitted as results are taken.

        >>> list(executor.map(pow, range(4), [2] * 4))
        [0, 1, 4, 9]
        >>> import itertools
        >>> squares = executor.map(lambda number: number * number, itertools.count(), buffersize=100)
        >>> next(number for number in squares if number > 1000)
        1024

        Args:
            fn: called with one item of each iterable.
            *iterables: read as calls are submitted.
            timeout: seconds from now until the last result; what is not submitted by then is not called.
            chunksize: calls that stay together; 1, and any number with a journal, lets the executor choose.
            buffersize: how many results to be ahead of the one that is taken; the input may be endless.
        """
        return self.starmap(
            fn, zip(*iterables, strict=False), timeout=timeout, chunksize=chunksize, buffersize=buffersize
        )

    def starmap(
        self,
        fn: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        *,
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Results of `fn(*args)` for the args of an iterable, in order; like `map` otherwise.

        >>> list(executor.starmap(pow, [(2, 3), (3, 2)]))
        [8, 9]
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        end_s = math.inf if timeout is None else time.monotonic() + timeout
        if chunksize == 1 or self._journal is not None:
            return in_order(partial(self._submit_until, end_s, fn), iter(iterable), buffersize, end_s)
        batches = ((batch,) for batch in _batched(iter(iterable), chunksize))
        submit = partial(self._submit_until, end_s, partial(chunks.run_batch, fn))
        ahead = buffersize and -(-buffersize // chunksize)
        return itertools.chain.from_iterable(in_order(submit, batches, ahead, end_s))

    def forget(self) -> None:
        """Forget all that the journal has answered, also in other programs: calls run again.

        A call is the same if its function does the same and its arguments have the same values. What else its
        result depends on, such as a file or random numbers, should be an argument. Exceptions are not kept.

        >>> with cluster.executor(journal="powers") as executor:
        ...     executor.submit(pow, 2, 10).result() + executor.submit(pow, 2, 10).result()  # runs once
        ...     executor.forget()
        2048

        Raises:
            StateError: the executor has no journal.
        """
        if self._journal is None:
            raise errors.StateError("this executor has no journal: make it with executor(journal=...)")
        self._journal.forget()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls and end the session when all are done; `cancel_futures` drops the unsent."""
        _stop(self._sender, cancel_queued=cancel_futures)
        if wait:
            self._sender.thread.join()

    def terminate_workers(self) -> None:
        """End the workers and their calls now; calls that are not done fail with `BrokenClusterError`."""
        self._sender.terminate()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for the submitted calls; end them now if an interrupt or a cancellation leaves the block."""
        if is_interrupt(kind):
            self.terminate_workers()
        super().__exit__(kind, exc, traceback)

    def _submit_until(self, end_s: float, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Submit a call of a `map`; gives a `LateFuture` if there is no room at `end_s`."""
        if end_s < math.inf and self._sender.unsent.is_full and not self._sender.enter(end_s):
            return LateFuture()
        return self.submit(fn, *args)


def _chosen(options: ExecutorOptions) -> ExecutorOptions:
    """All options, with those that are given.

    Raises:
        TypeError: there is no such option.
        ValueError: one is out of range.
    """
    if unknown := options.keys() - DEFAULTS.keys():
        raise TypeError(f"an executor has no option {', '.join(sorted(unknown))}")
    chosen = DEFAULTS | options
    if chosen["cores_per_worker"] <= 0:
        raise ValueError("cores_per_worker must be greater than 0")
    if (chosen["max_pending"] or 0) < 0:
        raise ValueError("max_pending must be None, 0 or greater than 0")
    return chosen


def _open_journal(settings: Settings, name: str | None) -> CallJournal | None:
    """The journal of a name; None for no name. It is the person's, whichever cluster runs the calls."""
    if name is None:
        return None
    return CallJournal(CallAnswers(config.default_state_dir(), name, settings.journal_bytes), name)


def _worker_setup() -> bytes:
    """What each worker calls first, so that it finds modules and files as this program does."""
    path = tuple(os.path.abspath(entry) for entry in sys.path)  # noqa: PTH100 - "" is the directory
    return pickle.dumps(WorkerSetup(path, os.getcwd()))  # noqa: PTH109 - a string travels


def _open_session(settings: Settings, max_workers: int, chosen: ExecutorOptions) -> Session:
    """A session that has its turn."""
    _follow_process()
    options = SessionOptions(
        user_name=getpass.getuser(),
        worker_setup=_worker_setup(),
        max_workers=max_workers,
        weight=chosen["weight"],
        cores_per_worker=chosen["cores_per_worker"],
        needs=Needs(environment.for_functions()),
    )
    session = Session(settings, options)
    try:
        session.wait_for_turn(lambda _ahead: None, worker_output.echo if chosen["shows_output"] else None)
    except BaseException:
        session.close()
        raise
    return session


def is_interrupt(kind: type[BaseException] | None) -> bool:
    """Whether a block is left neither by an error nor at its end: by Ctrl-C, or asyncio's cancellation."""
    return kind is not None and not issubclass(kind, Exception | SystemExit | GeneratorExit)


def _batched(items: Iterator[Iterable[Any]], size: int) -> Iterator[list[Iterable[Any]]]:
    while batch := list(itertools.islice(items, size)):
        yield batch


def _stop(sender: Sender, *, cancel_queued: bool = False) -> None:
    """Let a sender end when everything is done, or now if the program ends by an interrupt."""
    is_shell = hasattr(sys, "ps1")  # which goes on after an interrupt
    if not is_shell and getattr(sys, "last_type", None) is KeyboardInterrupt:
        sender.terminate()
    else:
        sender.stop(cancel_queued=cancel_queued)


def _finish() -> None:
    """At the end of the program: wait for the submitted calls, as other executors do."""
    senders = list(_senders)
    for sender in senders:
        _stop(sender)
    for sender in senders:
        sender.thread.join()


def _leave_to_parent() -> None:
    """In a fork of this process: its parent's threads are not here, so nobody would take calls."""
    for sender in list(_senders):
        sender.disown()


@cache
def _follow_process() -> None:
    """Take part in the end and in the forks of this program; once, with its first executor."""
    atexit.register(_finish)
    os.register_at_fork(after_in_child=_leave_to_parent)
