#!/usr/bin/env python3
"""Recomputes every figure of a run's folder from its records, its metrics and its plan, and tells each that differs.

    recompute.py RUN...

Written from the design's definitions alone; it shares no code with the program and needs nothing but Python. Counts, means
and maxima have to be equal up to how they are printed, quantiles within 1 %. What the files do not hold (a container's life
between its invocations, the head of a queue) is taken from metrics.csv where it is sampled there, or left out and named.
Exits with 1 if anything differs.
"""
import sys

sys.dont_write_bytecode = True

from figures import memory, summary, tables  # noqa: E402
from figures.run import Run  # noqa: E402
from figures.summary import FIGURES, lacks, values_of  # noqa: E402
from figures.verdict import Verdict  # noqa: E402


def check(folder):
    run = Run(folder)
    trace = run.plan.get("trace") or {}
    measure = run.plan.get("measure", {})
    run.rows_without_end = bool(trace) and trace.get("to") is None and measure.get("until") is None
    run.quiet_begin, run.quiet_end = memory.quiet(run, run.begin), memory.quiet(run, run.until)
    verdict = Verdict(run)
    if any(r.weight != 1 for r in run.records) or run.plan.get("records", "full") != "full":
        print(f"{folder}: its records are a sample; run it with records = \"full\"")
        return verdict
    summary.check_counts(verdict, run)
    for figure, (_, scale) in FIGURES.items():
        missing = sum(lacks(figure, r) for r in run.inside)
        summary.check_distribution(verdict, f"summary {figure}", run.summary[figure], values_of(figure, run.inside), missing, scale)
    summary.check_load(verdict, run)
    memory.check_memory(verdict, run)
    memory.check_containers(verdict, run, "summary", run.summary, None)
    tables.check_functions(verdict, run)
    tables.check_workers(verdict, run)
    tables.check_distributions(verdict, run)
    tables.check_heat(verdict, run)
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
