"""A run's folder, read: its plan, its records, its metrics, and its window."""

import csv
import json
import os
from collections import defaultdict

NS = 1_000_000_000
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
