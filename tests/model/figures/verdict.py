"""What is compared and how it is told; means, quantiles, and what is held over time."""

import math


def quantile(sorted_values, q):
    """Law: the smallest value of rank >= q n."""
    return sorted_values[max(math.ceil(q * len(sorted_values) - 1e-9), 1) - 1]


def mean(values):
    return sum(values) / len(values) if values else float("nan")


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
