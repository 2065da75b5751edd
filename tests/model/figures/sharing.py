"""What runs on shared processors, over time."""

from collections import defaultdict

from .memory import ended


class Shared:
    """The cores that runnable work uses and asks for, of one worker, from what runs when."""

    def __init__(self, run, worker):
        self.cores = run.cores
        cold = float(run.plan["model"].get("cold_cpu_fraction", 0.5))
        changes = []
        for r in run.records:
            if r.worker != worker or r.dispatch is None:
                continue
            f = run.functions[r.function]
            works = []
            if r.start_kind == "cold" or r.exec_start is None:
                # A creation is one core's work.
                works.append((r.dispatch, r.exec_start if r.exec_start is not None else run.end, (1.0, cold)))
            if r.exec_start is not None:
                works.append((r.exec_start, ended(run, r), (f.cpus, f.fraction)))
            for begins, ends, kind in works:
                if ends > begins:
                    changes += [(begins, 1, kind), (ends, -1, kind)]
        self.changes = sorted(changes)

    def spans(self):
        """(from, to, cores used, cores asked for beyond those there are) for each span in which nothing changes."""
        running, before = defaultdict(int), 0
        for at, change, kind in self.changes:
            if at > before and any(running.values()):
                yield (before, at, *self.state(running))
            running[kind] += change
            before = at

    def state(self, running):
        asked = used_at(running, 1.0)
        if self.cores is None or asked <= self.cores:
            return asked, 0.0
        # Law (CPU): the largest share for which what is used is at most the cores; it grows with the share.
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if used_at(running, middle) <= self.cores else (low, middle)
        return used_at(running, low), asked - self.cores


def used_at(running, share):
    return sum(n * cpus * f / ((1 - f) + f / share) for (cpus, f), n in running.items() if n and share > 0)
