"""Which jobs may start now: a pure state machine over a graph of jobs that share a number of tokens."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Task:
    """A unit of work: it waits for *needs* and holds *tokens* while it runs."""

    name: str
    needs: frozenset[str] = frozenset()
    tokens: int = 1


@dataclass(slots=True)
class Scheduler:
    """Give tasks with `start` and take their ends with `finish`; earlier tasks of the sequence go first.

    A task that wants more tokens than there are gets all of them. Every name in `needs` must be a task's, and the
    graph must have no cycle (ValueError).
    """

    tasks: Sequence[Task]
    capacity: int
    _position: dict[str, int] = field(init=False)
    _ready: list[int] = field(init=False)
    _unstarted: int = field(init=False)
    _running: dict[str, Task] = field(init=False, default_factory=dict)
    _open: dict[str, set[str]] = field(init=False)
    _dependents: dict[str, list[str]] = field(init=False)
    _stopped: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise ValueError("a scheduler needs at least one token")
        self._position = {task.name: position for position, task in enumerate(self.tasks)}
        if len(self._position) != len(self.tasks):
            raise ValueError("two tasks have the same name")
        self._open = {task.name: set(task.needs) for task in self.tasks}
        self._dependents = {task.name: [] for task in self.tasks}
        for task in self.tasks:
            for need in task.needs:
                if need not in self._dependents:
                    raise ValueError(f"{task.name} needs {need}, which is not a task")
                self._dependents[need].append(task.name)
        self._refuse_cycles()
        self._ready = [self._position[task.name] for task in self.tasks if not task.needs]  # sorted, hence a heap
        self._unstarted = len(self.tasks)

    @property
    def free(self) -> int:
        """Tokens that nobody holds."""
        return self.capacity - sum(self._cost(task) for task in self._running.values())

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing will: the end, or after `stop` the end of what was running."""
        return not self._running and (self._stopped or self._unstarted == 0)

    def start(self) -> list[Task]:
        """Return the tasks that start now; they hold their tokens until `finish`."""
        if self._stopped:
            return []
        started = []
        free = self.free
        while self._ready:
            task = self.tasks[self._ready[0]]
            if self._cost(task) > free:
                # A task that wants many tokens would wait for ever if smaller ones behind it kept taking them.
                break
            heapq.heappop(self._ready)
            free -= self._cost(task)
            self._unstarted -= 1
            self._running[task.name] = task
            started.append(task)
        return started

    def finish(self, name: str) -> None:
        """Take the successful end of a running task. Raises KeyError for one that does not run."""
        del self._running[name]
        for dependent in self._dependents[name]:
            self._open[dependent].discard(name)
            if not self._open[dependent]:
                heapq.heappush(self._ready, self._position[dependent])

    def fail(self, name: str) -> None:
        """Take the failure of a running task: nothing else starts."""
        del self._running[name]
        self._stopped = True

    def stop(self) -> None:
        """Start nothing more; what runs goes on until it is finished."""
        self._stopped = True

    def _cost(self, task: Task) -> int:
        return min(task.tokens, self.capacity)

    def _refuse_cycles(self) -> None:
        count = {name: len(needs) for name, needs in self._open.items()}
        ready = [name for name, number in count.items() if number == 0]
        seen = 0
        while ready:
            seen += 1
            for dependent in self._dependents[ready.pop()]:
                count[dependent] -= 1
                if count[dependent] == 0:
                    ready.append(dependent)
        if seen != len(self.tasks):
            raise ValueError("the tasks wait for each other in a circle")
