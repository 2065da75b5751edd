#!/usr/bin/env python3
"""Recomputes every figure of a run's folder from its records, its metrics and its plan, and tells each that differs.

    recompute.py RUN...

Written from the design's definitions alone; it shares no code with the program and needs nothing but Python. Counts, means
and maxima have to be equal up to how they are printed, quantiles within 1 %. What the files do not hold (a container's life
between its invocations, the head of a queue) is taken from metrics.csv where it is sampled there, or left out and named.
Exits with 1 if anything differs.
"""

import csv
import json
import math
import os
import sys
from collections import defaultdict

NS = 1_000_000_000
STATUSES = ["completed", "failed", "timed_out", "dropped", "lost", "unfinished"]
STARTS = ["cold", "warm", "prewarmed", "late"]
CAUSES = ["first", "expired", "evicted", "concurrency", "failure"]
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
UNITS = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9, "min": 60e9, "h": 3600e9, "d": 86_400e9}
SIZES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def quantity(text, units):
    """A number with its unit, in the smallest unit; None for what has no end."""
    if text is None or text in ("forever", "unlimited"):
        return None
    number = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    return round(float(number) * units[text[len(number):]])


def span(text):
    return quantity(text, UNITS)


def size(text):
    return quantity(text, SIZES)


class Record:
    """A row of records.csv; instants are ns since the run's zero, None if they never came."""

    def __init__(self, row, start, delay):
        arrival = int(row["arrival_unix_ns"]) - start
        at = lambda name: arrival + int(row[name]) if row[name] else None
        self.number = int(row["invocation"])
        self.function, self.worker, self.container = row["function"], int(row["worker"]), row["container"]
        self.start_kind, self.cause, self.status = row["start_kind"], row["cold_cause"], row["status"]
        self.arrival, self.enqueue, self.dispatch = arrival, at("enqueue_ns"), at("dispatch_ns")
        self.exec_start, self.exec_end, self.returned = at("exec_start_ns"), at("exec_end_ns"), at("return_ns")
        self.intended, self.memory_mb = int(row["intended_ns"]), float(row["memory_mb"])
        self.weight, self.error = float(row["weight"]), row["error"]
        # The worker is done with it a message's way before its caller is.
        self.left = None if self.returned is None else self.returned - delay

    def latency(self):
        """Law: return - arrival, of those that executed."""
        return self.returned - self.arrival if self.exec_end is not None and self.returned is not None else None

    def queue(self):
        """Law: dispatch - arrival."""
        return self.dispatch - self.arrival if self.dispatch is not None else None

    def start_delay(self):
        """Law: exec_start - arrival."""
        return self.exec_start - self.arrival if self.exec_start is not None else None

    def setup(self):
        return self.exec_start - self.dispatch if self.exec_start is not None else None

    def cold(self):
        """Law: exec_start - dispatch, over cold starts."""
        return self.setup() if self.start_kind == "cold" else None

    def execution(self):
        """Law: exec_end - exec_start."""
        return self.exec_end - self.exec_start if self.exec_end is not None else None

    def overhead(self):
        """Law: latency - queue - cold - exec. A late one's wait for its place counts as its cold start here."""
        whole = self.latency()
        return None if whole is None else whole - self.queue() - self.setup() - self.execution()

    def slowdown(self):
        """Law: latency / intended duration, over those that completed and were meant to take time."""
        return self.latency() / self.intended if self.status == "completed" and self.intended > 0 else None


class Function:
    """What the plan says of a function."""

    def __init__(self, row, plan):
        self.name, self.app, self.memory_mb = row["function"], row["app"], float(row["memory_mb"])
        self.cpus, behaviour = 1.0, None
        for config in plan.get("function", []):
            name, count = config["name"], config.get("count", 1)
            numbered = self.name.startswith(name + "-") and self.name[len(name) + 1:].isdigit()
            if (count == 1 and self.name == name) or (count > 1 and numbered):
                self.cpus, behaviour = float(config.get("cpus", 1)), config.get("behaviour")
        fraction = float(plan["model"].get("cpu_fraction", 1.0))
        self.fraction = {"sleep": 0.0, "spin": 1.0}.get(behaviour, fraction)


class Run:
    """A run's folder, read."""

    def __init__(self, folder):
        self.folder = folder
        self.summary, self.about = self.load("summary.json"), self.load("run.json")
        self.plan = self.about["plan"]
        self.start = self.about["start_unix_ns"]
        self.end = self.about["end_unix_ns"] - self.start
        self.workers = self.plan["worker"].get("count", 1)
        self.cores = self.plan["worker"].get("cores")
        self.cores = None if self.cores in (None, "unlimited") else float(self.cores)
        self.contention = self.plan["model"].get("contention", "permits")
        self.shared = self.contention == "shared"
        self.delay = (span(self.plan["controller"].get("delay")) or 0) if self.workers > 1 else 0
        self.functions = {row["function"]: Function(row, self.plan) for row in self.rows("functions.csv")}
        self.records = [Record(row, self.start, self.delay) for row in self.rows("records.csv")]
        self.by_app = self.plan["worker"].get("unit") == "app"
        self.begin, self.until = self.window()
        self.inside = [r for r in self.records if self.begin <= r.arrival < self.until]
        self.metrics = self.read_metrics()

    def path(self, name):
        return os.path.join(self.folder, name)

    def load(self, name):
        with open(self.path(name), encoding="utf-8") as file:
            return json.load(file)

    def rows(self, name):
        with open(self.path(name), newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def read_metrics(self):
        """Points by series: {worker: {name: [(ns since zero, value)]}}."""
        series = defaultdict(lambda: defaultdict(list))
        for row in self.rows("metrics.csv"):
            parts = row["path"].split(".")
            place = next((i for i, part in enumerate(parts) if part.startswith("worker-")), None)
            if place is not None:
                at = float(row["unix_seconds"]) * NS - self.start
                series[parts[place]][".".join(parts[place + 1:])].append((at, float(row["value"])))
        return series

    def window(self):
        """Law (Window): where it begins and ends."""
        measure, trace = self.plan.get("measure", {}), self.plan.get("trace") or {}
        arrivals = sorted(r.arrival for r in self.records)
        loads = any("load" in f for f in self.plan.get("function", []))
        by_minute = trace.get("format") == "azure-2019"
        # At 0 for loads, at the first replayed minute for formats by minute, for rows at --from, else the first arrival.
        zero = 0 if loads or by_minute or trace.get("from") is not None else (arrivals[0] if arrivals else 0)
        self.ticks_begin = zero
        begin = zero + (span(measure.get("warm_up")) or 0)
        duration, limit = span(self.plan.get("duration")), self.plan.get("invocations")
        ended_by_count = limit is not None and len(self.records) >= limit
        if measure.get("until") is not None:
            until = span(measure["until"])
        elif trace.get("to") is not None or by_minute:
            until = round((self.summary["window_begin_seconds"] + self.summary["window_seconds"]) * NS)
        elif duration is not None and not ended_by_count:
            until = duration
        elif len(arrivals) > 1:
            # The last arrival + the mean gap.
            until = arrivals[-1] + round((arrivals[-1] - arrivals[0]) / (len(arrivals) - 1))
        else:
            until = max((r.returned or 0 for r in self.records), default=0)
        # An empty window is one.
        return begin, max(begin, until)

    def seconds(self):
        return (self.until - self.begin) / NS


def quantile(sorted_values, q):
    """Law: the smallest value of rank >= q n."""
    return sorted_values[max(math.ceil(q * len(sorted_values) - 1e-9), 1) - 1]


class Verdict:
    """Compares, counts and tells."""

    def __init__(self, run):
        self.run, self.compared, self.wrong, self.left_out = run, 0, 0, []

    def tell(self, where, printed, right, why=""):
        self.wrong += 1
        print(f"{self.run.folder}: {where}: printed {printed}, recomputed {right} {why}".rstrip())

    def exact(self, where, printed, right, decimals=6):
        self.compared += 1
        if isinstance(right, float) and math.isnan(right):
            right = None
        if printed is None or right is None or printed == "" or isinstance(printed, (str, bool)):
            if (printed if printed != "" else None) != right:
                self.tell(where, printed, right)
            return
        slack = 0.51 * 10**-decimals + 1e-8 * abs(right) if isinstance(right, float) else 0
        if abs(float(printed) - right) > slack:
            self.tell(where, printed, right)

    def within(self, where, printed, right, share):
        self.compared += 1
        if (printed is None or printed == "") != (right is None):
            self.tell(where, printed, right)
        elif right is not None and abs(float(printed) - right) > share * abs(right) + 1e-6:
            self.tell(where, printed, right, f"(more than {share:.0%} apart)")

    def at_least(self, where, printed, right):
        """A peak cannot be below what was sampled."""
        self.compared += 1
        if float(printed) < right - 1e-6:
            self.tell(where, printed, right, "(it was as high at a sample)")

    def between(self, where, printed, low, high):
        """Equal, or in between where the order of what falls on one instant is not in the records."""
        self.compared += 1
        if not low - 1e-6 <= float(printed) <= high + 1e-6:
            self.tell(where, printed, low if low == high else f"{low} to {high}")

    def skip(self, what):
        if what not in self.left_out:
            self.left_out.append(what)


def mean(values):
    return sum(values) / len(values) if values else float("nan")


def check_distribution(verdict, where, printed, values, missing, scale):
    """Law (Cut runs): quantiles rank all chosen invocations; a rank that falls on one without a value prints `> x`."""
    values = sorted(values)
    verdict.exact(f"{where}.n", printed["n"], len(values))
    if not values:
        return
    # A slowdown is kept in millionths.
    verdict.exact(f"{where}.mean", printed["mean"], float(sum(values) / len(values) / scale), 6 if scale > 1 else 5.7)
    verdict.exact(f"{where}.max", printed["max"], float(values[-1] / scale))
    for name, q in QUANTILES.items():
        rank = math.ceil(q * (len(values) + missing) - 1e-9)
        if rank > len(values):
            if not str(printed[name]).startswith(">"):
                verdict.tell(f"{where}.{name}", printed[name], f"> {values[-1] / scale}", f"({missing} have none)")
        elif isinstance(printed[name], str):
            verdict.tell(f"{where}.{name}", printed[name], values[max(rank, 1) - 1] / scale)
        else:
            verdict.within(f"{where}.{name}", printed[name], values[max(rank, 1) - 1] / scale, 0.01)


FIGURES = {
    "latency_ms": (Record.latency, 1e6),
    "queue_ms": (Record.queue, 1e6),
    "start_delay_ms": (Record.start_delay, 1e6),
    "cold_ms": (Record.cold, 1e6),
    "exec_ms": (Record.execution, 1e6),
    "overhead_ms": (Record.overhead, 1e6),
    "slowdown": (Record.slowdown, 1),
}


def values_of(figure, records):
    take, _ = FIGURES[figure]
    return [v for v in map(take, records) if v is not None]


def lacks(figure, r):
    """Whether a run's end came before an invocation could have this figure."""
    if r.status != "unfinished":
        return False
    if figure == "queue_ms":
        return r.dispatch is None
    if figure == "start_delay_ms":
        return r.exec_start is None
    if figure == "cold_ms":
        return r.dispatch is not None and r.exec_start is None
    return r.returned is None if figure != "exec_ms" else r.exec_end is None


def check_counts(verdict, run):
    s, rows = run.summary, run.inside
    verdict.exact("summary invocations", s["invocations"], len(rows))
    for status in STATUSES:
        verdict.exact(f"summary {status}", s[status], sum(r.status == status for r in rows))
    started = [r for r in rows if r.exec_start is not None]
    for kind in STARTS:
        verdict.exact(f"summary {kind}_starts", s[f"{kind}_starts"], sum(r.start_kind == kind for r in started))
    for cause in CAUSES:
        right = sum(r.cause == cause for r in started if r.start_kind == "cold")
        verdict.exact(f"summary cold_causes.{cause}", s["cold_causes"][cause], right)
    cold = sum(values_of("cold_ms", rows))
    executed = sum(values_of("exec_ms", rows))
    verdict.exact("summary cold_seconds", s["cold_seconds"], cold / NS)
    verdict.exact("summary execution_time_increase", s["execution_time_increase"], cold / executed if executed else float("nan"), 4)
    if knows_containers(run):
        verdict.between("summary affected_by_cold", s["affected_by_cold"], *affected_by_cold(run))
    else:
        verdict.skip("affected_by_cold: not all creations are in the records")
    verdict.exact("summary functions", s["functions"], len(run.functions))
    verdict.exact("summary seed", s["seed"], run.plan["seed"])
    verdict.exact("summary name", s["name"], run.plan["name"])
    verdict.exact("summary virtual_seconds", s["virtual_seconds"], run.end / NS)
    verdict.exact("summary window_begin_seconds", s["window_begin_seconds"], run.begin / NS)
    verdict.exact("summary window_seconds", s["window_seconds"], run.seconds())
    last = max((r.returned for r in rows if r.returned is not None), default=run.until)
    verdict.exact("summary drain_seconds", s["drain_seconds"], max(0, last - run.until) / NS)
    returned = sum(r.status == "completed" and run.begin <= r.returned < run.until for r in run.records)
    verdict.exact("summary throughput", s["throughput"], returned / run.seconds() if run.seconds() else float("nan"))


def affected_by_cold(run):
    """Law: late, or queued behind a creation: one that did not start cold itself and waited while a container was created on
    its worker. The least and the most that it can be."""
    creations = defaultdict(list)
    for r in run.records:
        if r.start_kind == "cold" and r.dispatch is not None:
            creations[r.worker].append((r.dispatch, r.exec_start if r.exec_start is not None else run.end))
    low = high = 0
    for r in run.inside:
        late = r.start_kind == "late"
        waited = r.exec_start is not None and r.start_kind != "cold" and r.dispatch > r.enqueue
        meets = [] if not waited else [(a < r.dispatch and b > r.enqueue, a <= r.dispatch and b >= r.enqueue) for a, b in creations[r.worker]]
        low += late or (waited and any(surely for surely, _ in meets))
        high += late or (waited and any(perhaps for _, perhaps in meets))
    return low, high


class Held:
    """What is held over time, from intervals: its integral over the window, and its peak there."""

    def __init__(self, begin, until):
        self.begin, self.until, self.integral, self.changes = begin, until, 0.0, []

    def add(self, start, end, amount=1.0):
        if start is None or end is None or end < start or start >= self.until or end < self.begin:
            return
        self.integral += max(0, min(end, self.until) - max(start, self.begin)) * amount
        self.changes += [(max(start, self.begin), amount), (min(end, self.until), -amount)]

    def mean(self):
        return self.integral / (self.until - self.begin) if self.until > self.begin else float("nan")

    def peaks(self):
        """The least and the most that it can be: of what ends and begins at one instant, what ends first or what begins."""
        return self.peak(lambda change: (change[0], change[1] > 0)), self.peak(lambda change: (change[0], change[1] < 0))

    def peak(self, order):
        now = best = 0.0
        for _, amount in sorted(self.changes, key=order):
            now += amount
            best = max(best, now)
        return best


def ended(run, r):
    """When a worker was done with what it executed."""
    return r.exec_end if r.exec_end is not None else run.end


def check_load(verdict, run):
    s, rows = run.summary, run.inside
    seconds = run.seconds()
    cold_fraction = float(run.plan["model"].get("cold_cpu_fraction", 0.5)) if run.shared else 1.0
    work = sum(run.functions[r.function].cpus * r.intended * (run.functions[r.function].fraction if run.shared else 1.0) for r in rows)
    # Law (Load): null for n < 2 rows without an end.
    offered = work / NS / seconds if seconds and not (len(run.records) < 2 and run.rows_without_end) else float("nan")
    verdict.exact("summary offered_load", s["offered_load"], offered)
    if run.cores is not None and s["offered_load"] is not None:
        verdict.exact("summary offered_load_share", s["offered_load_share"], offered / (run.cores * run.workers))
    cold = sum((run.functions[r.function].cpus if not run.shared else 1.0) * r.cold() for r in rows if r.cold() is not None)
    if run.shared:
        verdict.skip("cold_start_load under sharing: a creation's own length is not in the records")
    else:
        verdict.exact("summary cold_start_load", s["cold_start_load"], cold * cold_fraction / NS / seconds if seconds else float("nan"))
    whole = held(run, None)
    for name, series in whole.items():
        if run.shared and name == "busy_cores":
            verdict.skip("busy_cores under sharing")
            continue
        verdict.exact(f"summary {name}.mean", s[name]["mean"], float(series.mean()))
        verdict.between(f"summary {name}.peak", s[name]["peak"], *series.peaks())
    verdict.skip("blocked_behind_head: who could have been dispatched is not in the records")
    check_unstable(verdict, run)


def held(run, worker):
    """Cores held, invocations in flight and queued, of a worker or of all together."""
    series = {name: Held(run.begin, run.until) for name in ("busy_cores", "in_flight", "queue_length")}
    for r in run.records:
        if worker is not None and r.worker != worker:
            continue
        if r.dispatch is not None:
            series["busy_cores"].add(r.dispatch, ended(run, r), run.functions[r.function].cpus)
            series["in_flight"].add(r.dispatch, ended(run, r))
        waited_until = r.dispatch if r.dispatch is not None else r.left
        series["queue_length"].add(r.enqueue, waited_until if waited_until is not None else run.end)
    return series


def check_unstable(verdict, run):
    """Law (Load): the backlog's mean in the load's last quarter is above 5 and 1.15 times the third's, and the third's 1.15
    times the second's; closed loops never count."""
    closed = any("closed" in f.get("load", {}) for f in run.plan.get("function", []))
    if run.shared:
        verdict.skip("unstable under sharing: what runs beyond the cores is not in the records")
        return
    if closed:
        verdict.exact("summary unstable", run.summary["unstable"], False)
        return
    quarter = (run.until - run.begin) / 4
    if quarter < 10 * NS:
        verdict.skip("unstable: a quarter of the window has fewer than ten points")
        return
    means = []
    for i in range(4):
        backlog = Held(run.begin + i * quarter, run.begin + (i + 1) * quarter)
        for r in run.records:
            waited_until = r.dispatch if r.dispatch is not None else r.left
            backlog.add(r.enqueue, waited_until if waited_until is not None else run.end)
        means.append(backlog.mean())
    grows = means[3] > 5 and means[3] > 1.15 * means[2] and means[2] > 1.15 * means[1]
    verdict.exact("summary unstable", run.summary["unstable"], grows)


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
            verdict.exact(f"{where} {name}", int(printed[name]), right)
    # Law (Window): what was there and came is what went and is left.
    came = int(printed["containers_at_begin"]) + int(printed["containers_created"])
    went = sum(int(printed[n]) for n in ("evictions", "expirations", "containers_failed", "containers_condemned", "containers_left"))
    verdict.exact(f"{where} containers_at_begin + containers_created", came, went)


def check_functions(verdict, run):
    by_function = defaultdict(list)
    for r in run.inside:
        by_function[r.function].append(r)
    for row in run.rows("functions.csv"):
        name, rows = row["function"], by_function[row["function"]]
        where = f"functions.csv {name}"
        verdict.exact(f"{where} invocations", int(row["invocations"]), len(rows))
        for status in ("completed", "failed", "timed_out", "dropped"):
            verdict.exact(f"{where} {status}", int(row[status]), sum(r.status == status for r in rows))
        started = [r for r in rows if r.exec_start is not None]
        cold = sum(r.start_kind == "cold" for r in started)
        verdict.exact(f"{where} cold_starts", int(row["cold_starts"]), cold)
        share = cold / len(started) if started else float("nan")
        verdict.exact(f"{where} cold_start_share", row["cold_start_share"] and float(row["cold_start_share"]), share)
        latencies = sorted(values_of("latency_ms", rows))
        number = lambda column: float(row[column]) if row[column] else None
        verdict.exact(f"{where} latency_mean_ms", number("latency_mean_ms"), mean(latencies) / 1e6)
        verdict.exact(f"{where} latency_max_ms", number("latency_max_ms"), latencies[-1] / 1e6 if latencies else float("nan"))
        for column, q in (("latency_p50_ms", 0.5), ("latency_p99_ms", 0.99)):
            verdict.within(f"{where} {column}", row[column], quantile(latencies, q) / 1e6 if latencies else None, 0.01)
        verdict.exact(f"{where} exec_mean_ms", number("exec_mean_ms"), mean(values_of("exec_ms", rows)) / 1e6)
        verdict.exact(f"{where} start_delay_mean_ms", number("start_delay_mean_ms"), mean(values_of("start_delay_ms", rows)) / 1e6)
        verdict.exact(f"{where} slowdown_mean", number("slowdown_mean"), mean(values_of("slowdown", rows)))
    check_over_functions(verdict, run, by_function)


def check_over_functions(verdict, run, by_function):
    s = run.summary
    groups = {"cold_start_share": by_function, "cold_start_share_by_app": defaultdict(list)}
    for name, rows in by_function.items():
        groups["cold_start_share_by_app"][run.functions[name].app] += rows
    for figure, members in groups.items():
        shares = []
        for rows in members.values():
            started = [r for r in rows if r.exec_start is not None]
            if started:
                shares.append(sum(r.start_kind == "cold" for r in started) / len(started))
        shares.sort()
        for name, q in (("p25", 0.25), ("p50", 0.5), ("p75", 0.75), ("p90", 0.9)):
            if s[figure] is not None and shares:
                verdict.exact(f"summary {figure}.{name}", s[figure][name], float(quantile(shares, q)))
    slowdowns = {name: values_of("slowdown", rows) for name, rows in by_function.items()}
    means = [mean(v) for v in slowdowns.values() if v]
    geometric = lambda values: math.exp(mean([math.log(v) for v in values])) if values else float("nan")
    verdict.exact("summary geometric_mean_slowdown", s["geometric_mean_slowdown"], geometric(means))
    tails = [quantile(sorted(v), 0.99) for v in slowdowns.values() if v]
    verdict.within("summary geometric_mean_p99_slowdown", s["geometric_mean_p99_slowdown"], geometric(tails) if tails else None, 0.01)
    jain = sum(means) ** 2 / (len(means) * sum(m * m for m in means)) if means else float("nan")
    verdict.exact("summary jain_index", s["jain_index"], jain)


def check_workers(verdict, run):
    for row in run.rows("workers.csv"):
        worker = int(row["worker"].rsplit("-", 1)[1])
        where = f"workers.csv {row['worker']}"
        rows = [r for r in run.inside if r.worker == worker]
        started = [r for r in rows if r.exec_start is not None]
        verdict.exact(f"{where} invocations", int(row["invocations"]), len(rows))
        cold = sum(r.start_kind == "cold" for r in started)
        verdict.exact(f"{where} cold_starts", int(row["cold_starts"]), cold)
        verdict.exact(f"{where} warm_starts", int(row["warm_starts"]), sum(r.start_kind == "warm" for r in started))
        check_containers(verdict, run, where, row, worker)
        for name, series in held(run, worker).items():
            if not (run.shared and name == "busy_cores"):
                printed = row[f"{name}_mean"]
                verdict.exact(f"{where} {name}_mean", printed and float(printed), float(series.mean()))
        if knows_containers(run):
            creating, running = busy_memory(run, worker)
            verdict.between(f"{where} peak_running_mb", float(row["peak_running_mb"]), *running.peaks())
            verdict.between(f"{where} peak_creating_mb", float(row["peak_creating_mb"]), *creating.peaks())
            verdict.exact(f"{where} gb_seconds_creating", float(row["gb_seconds_creating"]), creating.integral / NS / 1024)
            right = (running.integral - creating.integral) / NS / 1024
            verdict.exact(f"{where} gb_seconds_running", float(row["gb_seconds_running"]), right)
        verdict.at_least(f"{where} peak_cached_mb", row["peak_cached_mb"], sampled_peak(run, worker, ["cached"]))
    rows = run.rows("workers.csv")
    for part in ("creating", "running", "cached", "removing"):
        total = sum(float(row[f"gb_seconds_{part}"]) for row in rows)
        verdict.exact(f"summary gb_seconds.{part}, the workers' sum", run.summary["gb_seconds"][part], total, 4)


def check_distributions(verdict, run):
    """Each point: how many values are at or below one that stands for a bucket of 1 %."""
    sorted_values = {figure: sorted(values_of(figure, run.inside)) for figure in FIGURES}
    last = {}
    for row in run.rows("distributions.csv"):
        figure, value, count = row["figure"], float(row["value"]), int(row["count_at_or_below"])
        values, scale = sorted_values[figure], FIGURES[figure][1]
        if count < 1 or count > len(values):
            verdict.tell(f"distributions.csv {figure} {value}", count, f"1 to {len(values)}")
            continue
        # The count-th value lies in the bucket, and the next one does not lie below it.
        verdict.within(f"distributions.csv {figure} at {count}", value, values[count - 1] / scale, 0.01)
        last[figure] = count
    for figure, values in sorted_values.items():
        verdict.exact(f"distributions.csv {figure}, last count", last.get(figure, 0), len(values))


def check_heat(verdict, run):
    if not os.path.exists(run.path("heat.csv")):
        verdict.skip("heat.csv: the run was made without plots")
        return
    by_function, shown = defaultdict(list), 0
    for r in run.inside:
        by_function[r.function].append(r)
    for row in run.rows("heat.csv"):
        low, high = float(row["from_s"]) * NS, float(row["to_s"]) * NS
        rows = [r for r in by_function[row["function"]] if low <= r.arrival < high]
        where = f"heat.csv {row['function']} from {row['from_s']}"
        verdict.exact(f"{where} invocations", int(row["invocations"]), len(rows))
        verdict.exact(f"{where} cold_starts", int(row["cold_starts"]), sum(r.start_kind == "cold" for r in rows))
        shown += len(rows)
    verdict.exact("heat.csv invocations, all rows", shown, len(run.inside))


def check(folder):
    run = Run(folder)
    trace = run.plan.get("trace") or {}
    measure = run.plan.get("measure", {})
    run.rows_without_end = bool(trace) and trace.get("to") is None and measure.get("until") is None
    run.quiet_begin, run.quiet_end = quiet(run, run.begin), quiet(run, run.until)
    verdict = Verdict(run)
    if any(r.weight != 1 for r in run.records) or run.plan.get("records", "full") != "full":
        print(f"{folder}: its records are a sample; run it with records = \"full\"")
        return verdict
    check_counts(verdict, run)
    for figure, (_, scale) in FIGURES.items():
        missing = sum(lacks(figure, r) for r in run.inside)
        check_distribution(verdict, f"summary {figure}", run.summary[figure], values_of(figure, run.inside), missing, scale)
    check_load(verdict, run)
    check_memory(verdict, run)
    check_containers(verdict, run, "summary", run.summary, None)
    check_functions(verdict, run)
    check_workers(verdict, run)
    check_distributions(verdict, run)
    check_heat(verdict, run)
    return verdict


def main():
    if len(sys.argv) < 2:
        sys.exit("recompute.py RUN...: name the folders of runs")
    wrong = 0
    for folder in sys.argv[1:]:
        verdict = check(folder)
        wrong += verdict.wrong
        print(f"{folder}: {verdict.compared} figures compared, {verdict.wrong} differ"
              + "".join(f"\n  left out: {what}" for what in verdict.left_out))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
