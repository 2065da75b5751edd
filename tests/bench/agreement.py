"""The tables of tests/bench/agreement.sh: agreement.py OUT BACKENDS LOADS

Reads what `elapse compare` left for each backend, load and simulation, and prints them as Markdown: every figure that is judged,
the distance of every stage with that of the live repeats among themselves, and which of the simulations is nearest in each.
"""
import json
import sys

out, backends, loads = sys.argv[1], sys.argv[2].split(), sys.argv[3].split()
SIDES = ("calibrated", "means", "zero", "null", "doubled")
FIGURES = (("cold_starts", "cold starts"), ("latency_ms.p50", "latency p50, ms"), ("latency_ms.p99", "latency p99, ms"), ("queue_ms.mean", "queue mean, ms"), ("cold_ms.p50", "cold p50, ms"), ("exec_stretch.p99", "execution stretch p99"), ("functions_apart", "functions apart"))
STAGES = (("latency_ms", "latency"), ("queue_ms", "queue"), ("cold_ms", "cold start"), ("exec_ms", "execution"), ("overhead_ms", "overhead"))


def number(x):
    return "-" if x is None else f"{round(x, 2 if abs(x) < 10 else 1):g}"


def read(backend, load, side):
    with open(f"{out}/{backend}-{load}-{side}-compared/compare.json") as file:
        return json.load(file)


print("Simulated / live (the median of the repeats); `**` is farther apart than `elapse compare` allows.\n")
print("| load | simulation | " + " | ".join(name for _, name in FIGURES) + " |")
print("|---|---|" + "---|" * len(FIGURES))
nearest = {}
distances = []
for backend in backends:
    for load in loads:
        for side in SIDES:
            found = read(backend, load, side)
            checks = {check["figure"]: check for check in found["checks"]}
            cells = []
            for figure, _ in FIGURES:
                check = checks.get(figure)
                cells.append("-" if check is None else f"{number(check['a'])} / {number(check['b'])}" + ("" if check["holds"] else " **"))
            print(f"| {backend} {load} % | {side} | " + " | ".join(cells) + " |")
            stages = {d["figure"]: d for d in found["distances"]}
            distances.append((backend, load, side, [stages[stage] for stage, _ in STAGES]))
            for stage, _ in STAGES:
                nearest.setdefault((backend, load, stage), {})[side] = (stages[stage]["ks"], stages[stage]["ks_floor"])

print("\nKolmogorov's and Smirnov's distance from the live repeats; in brackets that of the repeats among themselves.\n")
print("| load | simulation | " + " | ".join(name for _, name in STAGES) + " |")
print("|---|---|" + "---|" * len(STAGES))
for backend, load, side, stages in distances:
    cells = [f"{d['ks']:.3f} ({d['ks_floor']:.3f})" for d in stages]
    print(f"| {backend} {load} % | {side} | " + " | ".join(cells) + " |")

print("\nWhether a load says something of the simulator, and what: distances of latency in multiples of that of the repeats.\n")
print("| load | the null simulator | without the host's delays | calibrated |")
print("|---|---|---|---|")
of = {(backend, load, side): stages[0] for backend, load, side, stages in distances}
for backend in backends:
    for load in loads:
        times = [of[backend, load, side]["ks"] / of[backend, load, side]["ks_floor"] for side in ("null", "zero", "calibrated")]
        print(f"| {backend} {load} % | " + " | ".join(f"{x:.1f}" for x in times) + " |")

print("\nWhere the calibrated simulation is not the nearest:\n")
beaten = 0
for (backend, load, stage), sides in nearest.items():
    ours, floor = sides["calibrated"]
    for side in ("means", "zero"):
        theirs = sides[side][0]
        if theirs < ours:
            beaten += 1
            within = "; both are nearer than the repeats are to each other" if max(ours, theirs) <= floor else ""
            print(f"* {backend} {load} %, {dict(STAGES)[stage]}: {side} {theirs:.3f}, calibrated {ours:.3f}{within}")
if not beaten:
    print("* nowhere")
