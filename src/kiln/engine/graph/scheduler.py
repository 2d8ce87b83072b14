"""Which jobs may start now, and where: a pure state machine over a graph of jobs and the resources of places."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from kiln.engine.graph.costs import ORDINARY

LOCAL: Final = "local"
"""The place that tasks run at if nothing else is said: this machine."""


@dataclass(frozen=True, slots=True)
class Task:
    """A unit of work: it waits for *needs* and holds *tokens* (by kind of resource) of one place while it runs.

    *places* are where it may run, the best first; *last_resort* is for when all of these were withdrawn.
    """

    name: str
    needs: frozenset[str] = frozenset()
    tokens: Mapping[str, int] = field(default_factory=lambda: ORDINARY)
    places: tuple[str, ...] = (LOCAL,)
    last_resort: tuple[str, ...] = ()


@dataclass(slots=True)
class Scheduler:
    """Give tasks with `start` and take their ends with `finish`; earlier tasks of the sequence go first.

    *capacity* has the tokens of each place by kind; a kind that a place does not count costs nothing there. A task that
    wants more tokens of a kind than a place has gets all of them. A task that must wait keeps what it waits for from
    later ones, or smaller ones would take it for ever; tasks that want nothing of it go on. Where several places are
    free, a task goes where something that it needs has run, because its tree is there. Every name in `needs` must be a
    task's, every place must be known and have something that the task wants, and the graph must have no cycle
    (ValueError).
    """

    tasks: Sequence[Task]
    capacity: Mapping[str, Mapping[str, int]]
    _free: dict[tuple[str, str], int] = field(init=False)
    _position: dict[str, int] = field(init=False)
    _ready: list[int] = field(init=False)
    _unstarted: int = field(init=False)
    _running: dict[str, Task] = field(init=False, default_factory=dict)
    _where: dict[str, str] = field(init=False, default_factory=dict)
    _allowed: dict[str, tuple[str, ...]] = field(init=False)
    _lost: set[str] = field(init=False, default_factory=set)
    _open: dict[str, set[str]] = field(init=False)
    _dependents: dict[str, list[str]] = field(init=False)
    _stopped: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self._free = {(place, kind): count for place, has in self.capacity.items() for kind, count in has.items()}
        if any(count < 1 for count in self._free.values()):
            raise ValueError("a place needs at least one token of each kind that it has")
        self._position = {task.name: position for position, task in enumerate(self.tasks)}
        if len(self._position) != len(self.tasks):
            raise ValueError("two tasks have the same name")
        self._allowed = {task.name: task.places or task.last_resort for task in self.tasks}
        self._open = {task.name: set(task.needs) for task in self.tasks}
        self._dependents = {task.name: [] for task in self.tasks}
        for task in self.tasks:
            if not self._allowed[task.name] or not {*task.places, *task.last_resort} <= self.capacity.keys():
                raise ValueError(f"{task.name} has no place, or one that nobody knows")
            if not all(self._cost(task, place) for place in (*task.places, *task.last_resort)):
                raise ValueError(f"{task.name} has a place with nothing that it wants")
            for need in task.needs:
                if need not in self._dependents:
                    raise ValueError(f"{task.name} needs {need}, which is not a task")
                self._dependents[need].append(task.name)
        self._refuse_cycles()
        self._ready = [self._position[task.name] for task in self.tasks if not task.needs]  # sorted, hence a heap
        self._unstarted = len(self.tasks)

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing will: the end, or after `stop` the end of what was running."""
        return not self._running and (self._stopped or self._unstarted == 0)

    def place(self, name: str) -> str:
        """Return where a task runs or has run. Raises KeyError for one that has not started."""
        return self._where[name]

    def start(self) -> list[Task]:
        """Return the tasks that start now; they hold their tokens until `finish`."""
        if self._stopped:
            return []
        started, waiting = [], []
        kept: set[tuple[str, str]] = set()
        while self._ready and any(count and resource not in kept for resource, count in self._free.items()):
            position = heapq.heappop(self._ready)
            task = self.tasks[position]
            place = self._free_place(task, kept)
            if place is None:
                kept.update(resource for place in self._allowed[task.name] for resource in self._cost(task, place))
                waiting.append(position)
                continue
            for resource, count in self._cost(task, place).items():
                self._free[resource] -= count
            self._where[task.name] = place
            self._unstarted -= 1
            self._running[task.name] = task
            started.append(task)
        for position in waiting:
            heapq.heappush(self._ready, position)
        return started

    def finish(self, name: str) -> None:
        """Take the successful end of a running task. Raises KeyError for one that does not run."""
        self._release(name)
        for dependent in self._dependents[name]:
            self._open[dependent].discard(name)
            if not self._open[dependent]:
                heapq.heappush(self._ready, self._position[dependent])

    def fail(self, name: str) -> None:
        """Take the failure of a running task: nothing else starts."""
        self._release(name)
        self._stopped = True

    def move(self, name: str, *, lost: bool) -> bool:
        """Take back a running task that its place could not run; it starts elsewhere. With *lost*, nothing runs there.

        Returns whether every task that has not started has a place left; else nothing more starts, as after `fail`.
        """
        place = self._where[name]
        self._release(name)
        del self._where[name]
        self._unstarted += 1
        heapq.heappush(self._ready, self._position[name])
        if lost:
            self._lost.add(place)
        waiting = [task for task in self.tasks if task.name not in self._where]
        for task in waiting if lost else [self.tasks[self._position[name]]]:
            allowed = self._allowed[task.name]
            # A task that was running elsewhere may not have been told of places that were lost meanwhile.
            left = tuple(other for other in allowed if other != place and other not in self._lost)
            if not left and allowed != task.last_resort:
                left = tuple(other for other in task.last_resort if other not in self._lost)
            self._allowed[task.name] = left
        self._stopped = self._stopped or not all(self._allowed[task.name] for task in waiting)
        return not self._stopped

    def stop(self) -> None:
        """Start nothing more; what runs goes on until it is finished."""
        self._stopped = True

    def _release(self, name: str) -> None:
        task = self._running.pop(name)
        for resource, count in self._cost(task, self._where[name]).items():
            self._free[resource] += count

    def _free_place(self, task: Task, kept: set[tuple[str, str]]) -> str | None:
        near = {self._where[need] for need in task.needs}
        for place in sorted(self._allowed[task.name], key=lambda place: place not in near):
            cost = self._cost(task, place).items()
            if all(resource not in kept and count <= self._free[resource] for resource, count in cost):
                return place
        return None

    def _cost(self, task: Task, place: str) -> dict[tuple[str, str], int]:
        has = self.capacity[place]
        return {
            (place, kind): min(count, has[kind]) for kind, count in task.tokens.items() if kind in has and count > 0
        }

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
