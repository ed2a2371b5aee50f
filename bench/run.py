#!/usr/bin/env python3
"""Measures torc and its rivals: run.py BUILD-DIRECTORY [NAME...] [--rounds N] [--quick]

Rounds: in each, every contestant of a cell does the work once, in a new order each time. What counts is the median of
the ratios within a round, which forgives a machine that is sometimes slower; times are the medians of the rounds.
"""

import argparse
import dataclasses
import json
import pathlib
import random
import signal
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "harness"))

import instructions  # noqa: E402
import machine  # noqa: E402
import measure  # noqa: E402
import memory  # noqa: E402
import micro  # noqa: E402
import works  # noqa: E402

DISTURBED = 0.05  # part of the measured core's time that others may take
MOST_REPEATS = 3
SPREAD = 1.25  # between a contestant's rounds; where it is larger there are up to three times as many


def undisturbed(contestant):
    """Measures once, and again if the core was shared; the least disturbed sample counts."""
    samples = []
    for _ in range(MOST_REPEATS):
        samples.append(contestant())
        if samples[-1].others <= DISTURBED:
            break
    return min(samples, key=lambda sample: sample.others)


def measure_cell(cell, rounds):
    """The samples of every contestant, a list with one for each round; those that fail drop out with a sentence."""
    taken = {name: [] for name in cell.contestants}

    def is_spread(samples):
        costs = [sample.cpu_us for sample in samples]
        return max(costs) > SPREAD * min(costs)

    for done in range(3 * rounds):
        # The median of few rounds says little where the machine was at times slower.
        if done >= rounds and not any(map(is_spread, taken.values())):
            break
        for name in random.sample(list(taken), len(taken)):
            try:
                taken[name].append(undisturbed(cell.contestants[name]))
            except (measure.Failure, OSError) as failure:
                print(f"{cell.work} {cell.numbers}: {name} drops out: {failure}", file=sys.stderr)
                del taken[name]
    return taken


def summary(samples):
    """The medians of the rounds, and the spread of what counts."""
    median = {field.name: statistics.median(getattr(sample, field.name) for sample in samples)
              for field in dataclasses.fields(measure.Sample)}
    costs = [sample.cpu_us for sample in samples]
    return {**median, "cpu_us_least": min(costs), "cpu_us_most": max(costs), "rounds": len(samples)}


def ratios(taken, to):
    """Of the CPU per unit, to that of contestant `to` in the same round."""
    if to not in taken:
        return {}
    return {name: statistics.median(sample.cpu_us / base.cpu_us for sample, base in zip(samples, taken[to]))
            for name, samples in taken.items()}


def show(cell, taken, base):
    numbers = ", ".join(f"{value} {name}" for name, value in cell.numbers.items())
    print(f"{cell.work}: {numbers}")
    relative = ratios(taken, base)
    for name, samples in sorted(taken.items(), key=lambda item: statistics.median(s.cpu_us for s in item[1])):
        told = summary(samples)
        print(f"  {name:12} {told['cpu_us']:9.2f} us/{cell.unit}  {relative.get(name, float('nan')):6.3f}"
              f"  {told['per_second']:10.0f}/s  p50 {told['p50_us']:8.0f}  p99 {told['p99_us']:8.0f}"
              f"  p99.9 {told['p999_us']:8.0f} us  {told['peak_kib'] / 1024:7.1f} MiB"
              + (f"  (disturbed: {told['others']:.0%})" if told["others"] > DISTURBED else ""), flush=True)


def run_cells(cells, base, rounds):
    results = []
    for cell in cells:
        taken = measure_cell(cell, rounds)
        show(cell, taken, base)
        results.append({"numbers": cell.numbers, "unit": cell.unit, "base": base,
                        "contestants": {name: summary(samples) for name, samples in taken.items()},
                        "ratios": ratios(taken, base),
                        "ratios_to_torc": ratios(taken, "torc-uring")})
    return results


WORKS = {
    "echo": lambda build, rounds, scale: run_cells(works.echo(build, scale), "uring", rounds),
    "check": lambda build, rounds, scale: run_cells(works.checks(build, scale), "uring", rounds),
    "https": lambda build, rounds, scale: run_cells(works.tls_checks(build, scale), "openssl", rounds),
    "server": lambda build, rounds, scale: run_cells(works.servers(build, scale), "nginx", rounds),
    "micro": lambda build, rounds, scale: list(micro.measure_all(build, rounds, scale)),
    "instructions": lambda build, rounds, scale: list(instructions.measure_all(build, scale)),
    "memory": lambda build, rounds, scale: list(memory.measure_all(build, scale)),
}


def main():
    parser = argparse.ArgumentParser(description="Measures torc and its rivals.")
    parser.add_argument("build", help="the build directory")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to measure: {', '.join(WORKS)} (all of them)")
    parser.add_argument("--rounds", type=int, default=5, help="how often everybody does the work (5)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, one round: to see that all of it works")
    parser.add_argument("--results", help="the directory that the results are written to, as JSON (they are not)")
    wanted = parser.parse_intermixed_args()
    unknown = [name for name in wanted.names if name not in WORKS]
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(WORKS)}")
    if measure.MEASURED_CORE == measure.PEER_CORE:
        parser.error("two cores are needed: one for what is measured, one for its peer")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # whoever was started is ended with it
    machine.enter_own_network()
    own_network = machine.prepare_network()
    rounds, scale = (1, 0.1) if wanted.quick else (wanted.rounds, 1.0)
    for name in wanted.names or WORKS:
        cells = WORKS[name](wanted.build, rounds, scale)
        if wanted.results and cells:
            target = pathlib.Path(wanted.results) / f"{name}.json"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps({"work": name, "date": time.strftime("%Y-%m-%d"), "rounds": rounds,
                                          "own_network": own_network, "machine": machine.describe(),
                                          "cells": cells}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
