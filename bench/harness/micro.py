"""The runtime's own steps, by Google Benchmark, on the measured core."""

import json
import pathlib
import statistics
import subprocess

import measure

# Whether an iteration of the benchmark is more than one step.
STEPS = {"switch_between_two": 2, "mutex_hand_over": 2, "gather_many/100": 100, "gather_many/10000": 10_000}


def run_once(program, seconds):
    told = subprocess.run(
        ["taskset", "-c", str(measure.MEASURED_CORE), program, "--benchmark_format=json",
         f"--benchmark_min_time={seconds}"], capture_output=True, text=True, check=True).stdout
    return {each["name"].removesuffix("/real_time"): each for each in json.loads(told)["benchmarks"]}


def measure_all(build, rounds, scale):
    directory = pathlib.Path(build) / "bench/micro"
    programs = {name: directory / f"bench-micro-{name}" for name in ("torc", "asio", "hand")}
    taken = {}
    for _ in range(rounds):
        for name, program in programs.items():
            if program.exists():
                for step, told in run_once(program, max(0.02, 0.3 * scale)).items():
                    taken.setdefault(step, {}).setdefault(name, []).append(told)
    for step, by_name in taken.items():
        row = {"step": step, "contestants": {}}
        for name, told in by_name.items():
            # What waits for another thread takes time that no core is busy for.
            times = [each["real_time" if step == "post_round_trip" else "cpu_time"] / STEPS.get(step, 1) for each in told]
            row["contestants"][name] = {"ns": statistics.median(times), "ns_least": min(times), "ns_most": max(times)}
            if "allocs" in told[-1]:
                row["contestants"][name]["allocations"] = told[-1]["allocs"] / STEPS.get(step, 1)
        print(f"{step}: " + ", ".join(
            f"{name} {found['ns']:.1f} ns" + (f" with {found['allocations']:.2f} allocations" if "allocations" in found else "")
            for name, found in row["contestants"].items()), flush=True)
        yield row
