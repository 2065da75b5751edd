"""A trace of short functions for tests/bench/agreement.sh: agreement_trace.py FOLDER RATE SECONDS SEED

20 functions of 128 MiB, called by a Poisson process of RATE a second whose popularity is Zipf's with exponent 1. The mean of a
function lies between 10 and 33 ms, and its calls between half and one and a half of that: none is cut, as many calls of one length
would make any difference of theirs the largest of all.
"""
import bisect
import csv
import itertools
import os
import random
import sys

folder, rate, seconds, seed = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
FUNCTIONS = 20
luck = random.Random(seed)
means = [luck.uniform(10, 33) for _ in range(FUNCTIONS)]
popularity = list(itertools.accumulate(1 / rank for rank in range(1, FUNCTIONS + 1)))
os.makedirs(folder)
with open(f"{folder}/functions.csv", "w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(["name", "memory_mb", "cold_ms", "warm_ms"])
    rows.writerows([f"f{i:02}", 128, f"{mean + 300:.3f}", f"{mean:.3f}"] for i, mean in enumerate(means))
with open(f"{folder}/invocations.csv", "w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(["time_ms", "function", "duration_ms"])
    at = luck.expovariate(rate)
    while at < seconds:
        which = bisect.bisect_left(popularity, luck.random() * popularity[-1])
        duration = means[which] * luck.uniform(0.5, 1.5)
        rows.writerow([f"{at * 1000:.3f}", f"f{which:02}", f"{duration:.3f}"])
        at += luck.expovariate(rate)
