"""functions.csv, workers.csv, distributions.csv and heat.csv."""

import math
import os
from collections import defaultdict

from .memory import busy_memory, check_containers, knows_containers, sampled_peak
from .run import NS
from .summary import FIGURES, held, values_of
from .verdict import mean, quantile


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
            if not run.shared or name != "busy_cores" or knows_containers(run):
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
        low, high = round(float(row["from_s"]) * NS), round(float(row["to_s"]) * NS)
        rows = [r for r in by_function[row["function"]] if low <= r.arrival < high]
        where = f"heat.csv {row['function']} from {row['from_s']}"
        verdict.exact(f"{where} invocations", int(row["invocations"]), len(rows))
        verdict.exact(f"{where} cold_starts", int(row["cold_starts"]), sum(r.start_kind == "cold" for r in rows))
        shown += len(rows)
    verdict.exact("heat.csv invocations, all rows", shown, len(run.inside))
