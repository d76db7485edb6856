"""Logs read by several processes at once: large ones in parts, others each by one of them.

The processes are fresh ones, not forks: whoever asks may have threads.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from functools import partial
from itertools import islice, pairwise
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, NamedTuple

from s6tls.audit.logs import stream
from s6tls.audit.logs.columns import Columns
from s6tls.audit.logs.jsonrecords import Json
from s6tls.audit.logs.lines import Expression, Lines, Reader
from s6tls.audit.logs.stream import LogError
from s6tls.audit.logs.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from s6tls.audit.logs.log import Log

    Hits = list[tuple[bytes, int]]
    Share = list["Task"]

BATCH = 1 << 16
"""How many addresses a process hands over at a time."""

LARGE = 1 << 22
"""A log of fewer bytes than that is not cut into parts."""


class Failed(Exception):
    """The log with the number `log` cannot be read, for the `error`."""

    def __init__(self, log: int, error: OSError) -> None:
        super().__init__(str(error))
        self.log, self.error = log, error


class Task(NamedTuple):
    """What one process reads of the log with a number: `size` bytes, as `hits` counts them on a tally."""

    log: int
    size: int
    hits: Callable[[Tally], Iterator[tuple[bytes, int]]]


def read(logs: Sequence[Log], reopen: Sequence[Callable[[], Log]], jobs: int) -> Iterator[tuple[int, Hits]]:
    """Read logs that have been opened, with so many processes; yield hits of one log or another, by its number.

    `reopen` opens each log anew, and can be pickled.  What is no plain file is read here.  The logs have their counts
    in the end.  Raises Failed.
    """
    shares: list[Share] = [[] for _ in range(jobs)]
    here = []
    for number, log in enumerate(logs):
        tasks = _tasks(number, log, reopen[number], jobs)
        if tasks:
            log.clear()  # of what was looked at to tell its format
        else:
            here.append(number)
        for task in tasks:
            min(shares, key=lambda share: sum(task.size for task in share)).append(task)
    with contextlib.ExitStack() as stack:
        ends = [stack.enter_context(_started(share)) for share in shares if share]
        for number in here:
            try:
                hits = logs[number].hits()
                while batch := list(islice(hits, BATCH)):
                    yield number, batch
            except OSError as error:
                raise Failed(number, error) from error
        yield from _heard(logs, ends)
    for number, log in enumerate(logs):
        try:
            log.refuse_nothing()
        except LogError as error:
            raise Failed(number, error) from error


def _tasks(number: int, log: Log, reopen: Callable[[], Log], jobs: int) -> list[Task]:
    """Return what may be read of a log by other processes; of what is no plain file, nothing."""
    size = stream.plain_size(log.path)
    if size is None:
        return []
    if size < LARGE or log.reader is None or not _is_of_lines(log.reader) or stream.is_packed(log.path):
        return [Task(number, size, partial(_whole, reopen))]
    places = stream.cuts(log.path, size, jobs)
    return [
        Task(number, end - start, partial(_part, log.path, log.reader, start, end)) for start, end in pairwise(places)
    ]


def _is_of_lines(reader: Reader) -> bool:
    """Tell whether each line can be read without those before it."""
    return isinstance(reader, Lines | Json | Expression) or (isinstance(reader, Columns) and reader.is_numbered)


def _whole(reopen: Callable[[], Log], tally: Tally) -> Iterator[tuple[bytes, int]]:
    log = reopen()
    yield from log.hits()
    tally.add(log)


def _part(path: bytes, reader: Reader, start: int, end: int, tally: Tally) -> Iterator[tuple[bytes, int]]:
    return tally.hits_in(reader.read(stream.line_chunks(stream.part(path, start, end))))


@contextlib.contextmanager
def _started(share: Share) -> Iterator[Connection]:
    """Hand over where a process says what it reads; end it when the block ends before it does."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(share, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.terminate()
        process.join()


def _work(share: Share, to: Connection) -> None:
    """Read what is a process's share, and send it: hits a batch at a time, and last the tally, or an error."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with contextlib.suppress(BrokenPipeError):
        for task in share:
            tally = Tally()
            hits = task.hits(tally)
            try:
                while batch := list(islice(hits, BATCH)):
                    to.send((task.log, batch, None))
            except BrokenPipeError:
                raise
            except OSError as error:
                to.send((task.log, [], error))
            else:
                to.send((task.log, [], tally))
        to.send(None)


def _heard(logs: Sequence[Log], ends: list[Connection]) -> Iterator[tuple[int, Hits]]:
    open_ = list(ends)
    while open_:
        for end in wait(open_):
            assert isinstance(end, Connection)
            try:
                said = end.recv()
            except EOFError:
                raise OSError("a process that reads logs has died") from None
            if said is None:
                open_.remove(end)
                continue
            number, batch, last = said
            if isinstance(last, OSError):
                raise Failed(number, last)
            if last is not None:
                logs[number].add(last)
            yield number, batch


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))
