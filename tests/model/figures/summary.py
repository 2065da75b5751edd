"""summary.json: counts, distributions, and the load that was offered and held."""

import math
from collections import defaultdict

from .memory import ended, knows_containers
from .run import NS, Record
from .sharing import Shared
from .verdict import Held

STATUSES = ["completed", "failed", "timed_out", "dropped", "lost", "unfinished"]
STARTS = ["cold", "warm", "prewarmed", "late"]
CAUSES = ["first", "expired", "evicted", "concurrency", "failure"]
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}


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
        if run.shared and name == "busy_cores" and not knows_containers(run):
            verdict.skip("busy_cores under sharing: not all creations are in the records")
            continue
        verdict.exact(f"summary {name}.mean", s[name]["mean"], float(series.mean()))
        if run.shared and name == "busy_cores" and run.workers > 1:
            verdict.skip("busy_cores.peak of a fleet that shares processors: it has none")
        else:
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
            if not run.shared:
                series["busy_cores"].add(r.dispatch, ended(run, r), run.functions[r.function].cpus)
            series["in_flight"].add(r.dispatch, ended(run, r))
        waited_until = r.dispatch if r.dispatch is not None else r.left
        series["queue_length"].add(r.enqueue, waited_until if waited_until is not None else run.end)
    if run.shared:
        for begins, ends, used, _ in shared_spans(run, worker):
            series["busy_cores"].add(begins, ends, used)
    return series


def shared_spans(run, worker):
    """What shared processors do, of a worker or of all."""
    workers = range(run.workers) if worker is None else [worker]
    return [span for w in workers for span in Shared(run, w).spans()]


def check_unstable(verdict, run):
    """Law (Load): the backlog's mean in the load's last quarter is above 5 and 1.15 times the third's, and the third's 1.15
    times the second's; closed loops never count."""
    closed = any("closed" in f.get("load", {}) for f in run.plan.get("function", []))
    if run.shared and not knows_containers(run):
        verdict.skip("unstable under sharing: not all creations are in the records")
        return
    if closed:
        verdict.exact("summary unstable", run.summary["unstable"], False)
        return
    quarter = (run.until - run.begin) / 4
    if quarter < 10 * NS:
        verdict.skip("unstable: a quarter of the window has fewer than ten points")
        return
    means, spans = [], shared_spans(run, None) if run.shared else []
    for i in range(4):
        backlog = Held(run.begin + i * quarter, run.begin + (i + 1) * quarter)
        for r in run.records:
            waited_until = r.dispatch if r.dispatch is not None else r.left
            backlog.add(r.enqueue, waited_until if waited_until is not None else run.end)
        # Under sharing also the cores that runnable work asks for beyond those there are.
        for begins, ends, _, beyond in spans:
            backlog.add(begins, ends, beyond)
        means.append(backlog.mean())
    grows = means[3] > 5 and means[3] > 1.15 * means[2] and means[2] > 1.15 * means[1]
    verdict.exact("summary unstable", run.summary["unstable"], grows)
