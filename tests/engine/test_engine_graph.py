"""What must run, and when it may start."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiln.engine.graph import costs
from kiln.engine.graph.needed import needed_jobs, reachable
from kiln.engine.graph.scheduler import LOCAL, Scheduler, Task
from kiln.engine.manifest.load import load

NOOP = "org.osbuild.noop"


def slots(local, **others):
    """Places that have nothing but processors."""
    return {place: {"cpu": count} for place, count in {LOCAL: local, **others}.items()}


def plan():
    tree = {"type": "org.osbuild.tree", "origin": "org.osbuild.pipeline"}

    def stage(number, *inputs):
        return {
            "type": NOOP,
            "options": {"n": number},
            "inputs": {name: tree | {"references": [f"name:{name}"]} for name in inputs},
        }

    return load(
        {
            "version": "2",
            "pipelines": [
                {"name": "build", "stages": [stage(1), stage(2)]},
                {"name": "os", "build": "name:build", "stages": [stage(3), stage(4)]},
                {"name": "unused", "build": "name:build", "stages": [stage(5)]},
                {"name": "image", "build": "name:build", "stages": [stage(6), stage(7, "os"), stage(8)]},
            ],
        }
    )


def jobs(stored, *exports):
    loaded = plan()
    found = needed_jobs(loaded, [loaded.pipeline(name) for name in exports], lambda p, i: f"{p.name}/{i}" in stored)
    return {job.name: set(job.needs) for job in found}


def test_only_what_the_exports_need_runs_and_as_early_as_it_can():
    assert jobs(set(), "image") == {
        "build/0": set(),
        "build/1": {"build/0"},
        "os/0": {"build/1"},
        "os/1": {"os/0", "build/1"},
        "image/0": {"build/1"},
        "image/1": {"image/0", "build/1", "os/1"},
        "image/2": {"image/1", "build/1"},
    }


def test_work_starts_after_the_newest_stored_stage():
    assert jobs({"image/2"}, "image") == {}
    assert jobs({"image/1", "build/1"}, "image") == {"image/2": set()}
    # The stages that remain do not read `os`, but are built in `build`.
    assert jobs({"image/1"}, "image") == {"build/0": set(), "build/1": {"build/0"}, "image/2": {"build/1"}}
    assert set(jobs({"image/0", "build/1"}, "image")) == {"os/0", "os/1", "image/1", "image/2"}


def test_reachable_is_what_exports_are_made_of():
    loaded = plan()
    assert [pipeline.name for pipeline in reachable(loaded, [loaded.pipeline("image")])] == ["build", "os", "image"]


def test_a_failure_starts_nothing_more():
    scheduler = Scheduler([Task("a"), Task("b"), Task("c")], slots(2))
    assert [task.name for task in scheduler.start()] == ["a", "b"]
    scheduler.fail("a")
    assert scheduler.start() == []
    assert not scheduler.idle
    scheduler.finish("b")
    assert scheduler.idle


def test_a_task_with_many_tokens_is_not_starved():
    scheduler = Scheduler([Task("a"), Task("big", tokens={"cpu": 9}), Task("c")], slots(2))
    assert [task.name for task in scheduler.start()] == ["a"]
    scheduler.finish("a")
    assert [task.name for task in scheduler.start()] == ["big"]
    scheduler.finish("big")
    assert [task.name for task in scheduler.start()] == ["c"]


@pytest.mark.parametrize(
    "tasks",
    [
        [Task("a", frozenset({"a"}))],
        [Task("a", frozenset({"b"})), Task("b", frozenset({"a"}))],
        [Task("a", frozenset({"nobody"}))],
        [Task("a"), Task("a")],
        [Task("a", tokens={"tape": 1})],
    ],
)
def test_impossible_graphs_are_refused(tasks):
    with pytest.raises(ValueError):
        Scheduler(tasks, slots(1))


def test_a_resource_without_tokens_is_refused():
    with pytest.raises(ValueError):
        Scheduler([], slots(0))


def test_who_waits_for_one_resource_does_not_hold_up_the_others():
    tasks = [
        Task("a", tokens={"cpu": 1, "memory": 3}),
        Task("large", tokens={"cpu": 1, "memory": 3}),
        Task("small", tokens={"memory": 1}),
        Task("fetch", tokens={"network": 1}),
    ]
    scheduler = Scheduler(tasks, {LOCAL: {"cpu": 4, "memory": 4, "network": 1}})
    # `small` would fit, but then `large` would never get its memory.
    assert [task.name for task in scheduler.start()] == ["a", "fetch"]
    scheduler.finish("fetch")
    assert scheduler.start() == []
    scheduler.finish("a")
    assert [task.name for task in scheduler.start()] == ["large", "small"]


KINDS = ("cpu", "memory", "network")


@given(st.data())
def test_every_schedule_keeps_order_and_tokens(data):
    count = data.draw(st.integers(1, 12))
    capacity = {kind: data.draw(st.integers(1, 4)) for kind in KINDS}
    tasks = []
    for number in range(count):
        needs = data.draw(st.frozensets(st.integers(0, number - 1).map(str), max_size=3)) if number else frozenset()
        tasks.append(
            Task(str(number), needs, data.draw(st.dictionaries(st.sampled_from(KINDS), st.integers(1, 5), min_size=1)))
        )
    scheduler = Scheduler(tasks, {LOCAL: capacity})
    running, done = {}, set()

    def held(kind):
        return sum(min(task.tokens.get(kind, 0), capacity[kind]) for task in running.values())

    while not scheduler.idle:
        for task in scheduler.start():
            assert task.needs <= done
            running[task.name] = task
        assert all(held(kind) <= capacity[kind] for kind in KINDS)
        ready = [task for task in tasks if task.needs <= done and task.name not in running and task.name not in done]
        if ready:
            # The first that must wait does so because of what runs, not because of who comes after it.
            lacking = [
                kind
                for kind, wanted in ready[0].tokens.items()
                if held(kind) + min(wanted, capacity[kind]) > capacity[kind]
            ]
            assert lacking
        ended = data.draw(st.sampled_from(sorted(running)))
        del running[ended]
        done.add(ended)
        scheduler.finish(ended)
    assert done == {task.name for task in tasks}


def test_every_stage_holds_what_there_is():
    machine = costs.capacity(2, 8 * costs.GIB)
    assert machine == {"cpu": 2, "memory": 7, "network": 1}
    assert costs.capacity(1, 0)["memory"] == 1
    for name in (*costs.MEMORY_GIB, "org.osbuild.noop"):
        assert costs.tokens(name).keys() <= machine.keys()
        assert costs.tokens(name)["cpu"] == 1


def test_places_are_filled_beside_each_other_and_local_first():
    tasks = [Task(name, places=(LOCAL, "far")) for name in "abcd"]
    scheduler = Scheduler(tasks, slots(1, far=2))
    assert [(task.name, scheduler.place(task.name)) for task in scheduler.start()] == [
        ("a", LOCAL),
        ("b", "far"),
        ("c", "far"),
    ]
    scheduler.finish("b")
    assert [(task.name, scheduler.place(task.name)) for task in scheduler.start()] == [("d", "far")]


def test_a_task_goes_where_what_it_needs_has_run():
    tasks = [
        Task("a", places=("far",)),
        Task("b", frozenset({"a"}), places=(LOCAL, "far")),
        Task("c", places=(LOCAL, "far")),
    ]
    scheduler = Scheduler(tasks, slots(1, far=1))
    assert len(scheduler.start()) == 2
    scheduler.finish("a")
    scheduler.finish("c")
    scheduler.start()
    assert scheduler.place("b") == "far"


def test_a_full_place_holds_up_only_those_that_wait_for_it():
    tasks = [Task("a", places=("far",)), Task("b", places=("far",)), Task("c")]
    scheduler = Scheduler(tasks, slots(1, far=1))
    assert [task.name for task in scheduler.start()] == ["a", "c"]


def test_what_a_lost_place_ran_starts_elsewhere():
    tasks = [Task("a", places=("x", "y")), Task("b", frozenset({"a"}), places=("x",), last_resort=(LOCAL,))]
    scheduler = Scheduler(tasks, slots(1, x=1, y=1))
    scheduler.start()
    assert scheduler.move("a", lost=True)
    assert [task.name for task in scheduler.start()] == ["a"]
    assert scheduler.place("a") == "y"
    scheduler.finish("a")
    scheduler.start()
    assert scheduler.place("b") == LOCAL


def test_nothing_starts_once_a_task_has_no_place_left():
    scheduler = Scheduler([Task("a", places=("x",)), Task("b")], slots(1, x=1))
    assert len(scheduler.start()) == 2
    assert not scheduler.move("a", lost=False)
    assert scheduler.start() == []
    scheduler.finish("b")
    assert scheduler.idle


def test_a_place_that_cannot_run_one_task_runs_others():
    scheduler = Scheduler([Task("a", places=("x", LOCAL)), Task("b", places=("x",))], slots(1, x=1))
    scheduler.start()
    assert scheduler.move("a", lost=False)
    assert {task.name: scheduler.place(task.name) for task in scheduler.start()} == {"a": LOCAL, "b": "x"}


@pytest.mark.parametrize("places", [(), ("nowhere",)])
def test_every_task_needs_a_place_that_is_known(places):
    with pytest.raises(ValueError, match="place"):
        Scheduler([Task("a", places=places)], slots(1))


@given(st.data())
def test_every_task_ends_somewhere_whatever_is_lost(data):
    names = ("x", "y")
    count = data.draw(st.integers(1, 8))
    choices = st.lists(st.sampled_from((LOCAL, *names)), min_size=1, max_size=3, unique=True).map(tuple)
    tasks = [
        Task(
            str(number),
            frozenset(map(str, data.draw(st.sets(st.integers(0, number - 1), max_size=2)) if number else ())),
            {"cpu": data.draw(st.integers(1, 3))},
            data.draw(choices),
            (LOCAL,),
        )
        for number in range(count)
    ]
    capacity = {place: data.draw(st.integers(1, 3)) for place in (LOCAL, *names)}
    scheduler = Scheduler(tasks, {place: {"cpu": count} for place, count in capacity.items()})
    running, done, lost = [], set(), set()
    while not scheduler.idle:
        for task in scheduler.start():
            assert task.needs <= done
            assert scheduler.place(task.name) not in lost
            running.append(task)
        used = dict.fromkeys(capacity, 0)
        for task in running:
            used[scheduler.place(task.name)] += min(task.tokens["cpu"], capacity[scheduler.place(task.name)])
        assert all(used[place] <= capacity[place] for place in capacity)
        task = running.pop(data.draw(st.integers(0, len(running) - 1)))
        place = scheduler.place(task.name)
        if place != LOCAL and data.draw(st.booleans()):
            whole = data.draw(st.booleans())
            assert scheduler.move(task.name, lost=whole)
            lost |= {place} if whole else set()
        else:
            scheduler.finish(task.name)
            done.add(task.name)
    assert done == {task.name for task in tasks}
