"""Memory and containers, from the records where these hold their lives, else from the points of metrics.csv."""

from collections import defaultdict

from .run import NS, size, span
from .verdict import Held, mean


def ended(run, r):
    """When a worker was done with what it executed."""
    return r.exec_end if r.exec_end is not None else run.end


def container_memory(run, function):
    """Law (Container): a container reserves its function's memory, or the largest of its app's."""
    f = run.functions[function]
    if not run.by_app:
        return f.memory_mb
    return max(g.memory_mb for g in run.functions.values() if g.app == f.app)


def busy_memory(run, worker):
    """Memory of containers that are created and that run, over time, from their invocations. None where a container's life
    is not in the records: prewarmed, late, or of unfinished business."""
    creating, running = Held(run.begin, run.until), Held(run.begin, run.until)
    by_container = defaultdict(list)
    for r in run.records:
        if r.container and (worker is None or r.worker == worker):
            by_container[(r.worker, r.container)].append(r)
    for users in by_container.values():
        memory = container_memory(run, users[0].function)
        busy = []
        for r in users:
            # One that was cut off before it began to execute has a container that was being created.
            new = r.start_kind == "cold" or (r.dispatch is not None and r.exec_start is None)
            begins = r.dispatch if new else r.exec_start
            if begins is not None:
                busy.append((begins, ended(run, r)))
            if new:
                creating.add(r.dispatch, r.exec_start if r.exec_start is not None else run.end, memory)
        # One reservation, however many are inside.
        for begins, ends in united(busy):
            running.add(begins, ends, memory)
    return creating, running


def united(intervals):
    union = []
    for begins, ends in sorted(intervals):
        if union and begins <= union[-1][1]:
            union[-1] = (union[-1][0], max(union[-1][1], ends))
        else:
            union.append((begins, ends))
    return union


def knows_containers(run):
    """Whether each container's creation and use is in the records."""
    model, functions = run.plan["model"], run.plan.get("function", [])
    prewarms = any(f.get("prewarm", 0) for f in functions)
    fails = float(model.get("creation_failure", 0)) > 0
    late = run.plan["worker"].get("dispatch") == "late"
    lost = any(r.status == "lost" for r in run.records)
    return not (prewarms or fails or late or lost)


def sampled(run, worker, name):
    """The points of a series in the window, by instant."""
    points = {}
    for key, series in run.metrics.items():
        if worker is None or key == f"worker-{worker}":
            for at, value in series.get(name, []):
                if run.begin <= at < run.until:
                    points[at] = points.get(at, 0.0) + value
    return points


def check_memory(verdict, run):
    memory, gb = run.summary["memory_mb"], run.summary["gb_seconds"]
    capacity = size(run.plan["worker"].get("memory"))
    verdict.exact("summary memory_mb.capacity", memory["capacity"], None if capacity is None else capacity / 2**20 * run.workers)
    if knows_containers(run):
        creating, running = busy_memory(run, None)
        verdict.between("summary memory_mb.peak_running", memory["peak_running"], *running.peaks())
        verdict.between("summary memory_mb.peak_creating", memory["peak_creating"], *creating.peaks())
        verdict.exact("summary memory_mb.mean_running", memory["mean_running"], float(running.mean()))
        verdict.exact("summary gb_seconds.creating", gb["creating"], creating.integral / NS / 1024)
        verdict.exact("summary gb_seconds.running", gb["running"], (running.integral - creating.integral) / NS / 1024)
    else:
        verdict.skip("memory of running and creating containers: not all of their lives are in the records")
    # Law (Memory): running includes creating; used = running + cached + removing.
    peaks = {"peak_running": ["running"], "peak_creating": ["creating"], "peak_cached": ["cached"],
             "peak_used": ["running", "cached", "removing"]}
    for name, parts in peaks.items():
        verdict.at_least(f"summary memory_mb.{name}", memory[name], sampled_peak(run, None, parts))
    # Sampled once a step: near, not equal.
    points = sampled(run, None, "memory_cached_mb")
    if len(points) >= 200:
        verdict.within("summary memory_mb.mean_cached", memory["mean_cached"], mean(list(points.values())), 0.05)
    if memory["mean_cached"] is not None:
        verdict.exact("summary gb_seconds.cached", gb["cached"], memory["mean_cached"] * run.seconds() / 1024, 3)
    total = sum(gb.values())
    verdict.exact("summary memory_time_wasted", run.summary["memory_time_wasted"], float(gb["cached"]))
    # From figures that are printed with six decimals.
    right, slack = (total / gb["running"], 1e-5 + 1e-6 / gb["running"]) if gb["running"] else (None, 0)
    verdict.within("summary memory_time_held_per_used", run.summary["memory_time_held_per_used"], right, slack)


def sampled_peak(run, worker, parts):
    """The highest sample of the sum."""
    sums = defaultdict(float)
    for part in parts:
        for at, value in sampled(run, worker, f"memory_{part}_mb").items():
            sums[at] += value
    return max(sums.values(), default=0.0)


COUNTERS = ["containers_created", "evictions", "expirations", "containers_failed", "containers_condemned",
            "prewarm_attempts", "prewarm_failures", "memory_reads", "loop_restarts"]


def quiet(run, when):
    """Whether nothing falls on a window's end itself: a point there tells what happened at its instant too, the window of
    [begin, end) does not. Before the first tick nothing has happened."""
    if when <= run.ticks_begin:
        return True
    keep_alive = {span(run.plan["worker"].get("keep_alive", "600s"))}
    keep_alive |= {span(f["keep_alive"]) for f in run.plan.get("function", []) if f.get("keep_alive")}
    removal = span(run.plan["model"].get("removal", "0s"))
    later = [0, removal] + [k + r for k in keep_alive if k is not None for r in (0, removal)]
    for r in run.records:
        for at in (r.arrival, r.enqueue, r.dispatch, r.exec_start, r.exec_end):
            if at is not None and any(at + span_ == when for span_ in later):
                return False
    return True


def counter(run, worker, name):
    """How much a counter rose in the window, from the points at its two ends; None where there is no point."""
    if not (run.quiet_begin and run.quiet_end):
        return None
    total = 0
    for key, series in run.metrics.items():
        if worker is not None and key != f"worker-{worker}":
            continue
        at = dict(series.get(name, []))
        first = 0 if run.begin <= run.ticks_begin else at.get(float(run.begin))
        last = at.get(float(run.until))
        if first is None or last is None:
            return None
        total += last - first
    return int(total)


def alive(run, worker, when):
    """Containers that are there at an instant, from the points then."""
    if when <= run.ticks_begin:
        return 0
    if not (run.quiet_begin and run.quiet_end):
        return None
    total = 0
    for key, series in run.metrics.items():
        if worker is not None and key != f"worker-{worker}":
            continue
        for part in ("creating", "running", "cached"):
            value = dict(series.get(f"containers_{part}", [])).get(float(when))
            if value is None:
                return None
            total += value
    return int(total)


def condemned(run, worker, when):
    """Containers in which some still execute at an instant after another timed out there or ran out of memory."""
    broken, busy = set(), set()
    for r in run.records:
        if r.exec_start is None or (worker is not None and r.worker != worker):
            continue
        if (r.status == "timed_out" or r.error == "oom") and r.exec_end <= when:
            broken.add((r.worker, r.container))
        if r.exec_start < when <= ended(run, r):
            busy.add((r.worker, r.container))
    return len(broken & busy)


def check_containers(verdict, run, where, printed, worker):
    for name in COUNTERS:
        if name in printed:
            right = counter(run, worker, name)
            if right is None:
                verdict.skip("counts of containers: no point at the window's ends")
            else:
                verdict.exact(f"{where} {name}", printed[name] if worker is None else int(printed[name]), right)
    for name, when in (("containers_at_begin", run.begin), ("containers_left", run.until)):
        right = alive(run, worker, when)
        if right is not None:
            # One that a failure condemned counts as failed, though some may still execute in it.
            verdict.between(f"{where} {name}", int(printed[name]), right - condemned(run, worker, when), right)
    # Law (Window): what was there and came is what went and is left.
    came = int(printed["containers_at_begin"]) + int(printed["containers_created"])
    went = sum(int(printed[n]) for n in ("evictions", "expirations", "containers_failed", "containers_condemned", "containers_left"))
    verdict.exact(f"{where} containers_at_begin + containers_created", came, went)
