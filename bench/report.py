#!/usr/bin/env python3
"""Makes docs/benchmarks.md and its plots of what run.py has written: report.py RESULTS-DIRECTORY DOCS-DIRECTORY

The page is the text of bench/page.md, in which `{{tables WORK}}` and `{{machine}}` stand for what was measured. Every cell
that was measured is in a table; what was lost is lost there as well. `{{ratios WORK}}` are the ratios alone of the first
run, and `{{together WORK}}` the medians of all. The earlier runs lie in RESULTS-DIRECTORY/first, .../second and so on.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
NAMES = {
    "torc-uring": "torc, io_uring", "torc-epoll": "torc, epoll", "uring": "by hand, io_uring",
    "uring-unlinked": "by hand, io_uring, not linked", "uring-parsed": "by hand, io_uring, torc's parser",
    "epoll": "by hand, epoll", "epoll-parsed": "by hand, epoll, torc's parser", "streams-uring": "torc's streams, io_uring", "asio-epoll": "Asio, epoll",
    "asio-uring": "Asio, io_uring", "libuv": "libuv", "curl": "libcurl multi", "openssl": "blocking, one after the other",
    "go": "Go", "aiohttp": "aiohttp", "nginx": "nginx", "torc": "torc", "asio": "Asio",
}


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def counted(count, of_what):
    return f"{count:,} {of_what.removesuffix('s') if count == 1 else of_what}"


def told(numbers):
    return ", ".join(counted(value, name) if isinstance(value, int) else str(value) for name, value in numbers.items())


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join("---" if i == 0 else "---:" for i in range(len(head))) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def cell_table(cell):
    rows = []
    for name, one in sorted(cell["contestants"].items(), key=lambda item: item[1]["cpu_us"]):
        ratio = cell["ratios_to_torc"].get(name)
        rows.append([NAMES[name], number(one["cpu_us"]), f"{number(one['cpu_us_least'])} to {number(one['cpu_us_most'])}",
                     f"{ratio:.2f}" if ratio else "", f"{one['per_second']:,.0f}",
                     " / ".join(number(one[each]) for each in ("p50_us", "p99_us", "p999_us")),
                     f"{one['peak_kib'] / 1024:.1f}"])
    unit = cell["unit"]
    return f"**{told(cell['numbers'])}**\n\n" + table(
        [f"CPU of one {unit}", "us", "least to most", "of torc's", f"{unit}s a second", "p50 / p99 / p99.9, us", "peak MiB"], rows)


def micro_table(cells):
    rows = []
    for cell in cells:
        by_name = cell["contestants"]
        rows.append([cell["step"].replace("_", " "), *[
            f"{number(by_name[name]['ns'])} ns" + (f", {by_name[name]['allocations']:.2f} allocations"
                                                   if "allocations" in by_name[name] else "")
            if name in by_name else "" for name in ("torc", "asio", "hand")]])
    return table(["step", "torc", "Asio", "by hand"], rows)


def instructions_table(cells):
    rows = []
    for cell in cells:
        torc = cell["contestants"].get("torc-uring")
        for name, count in sorted(cell["contestants"].items(), key=lambda item: item[1]):
            rows.append([f"{cell['work']}: {told(cell['numbers'])}", NAMES[name], number(count),
                         f"{count / torc:.2f}" if torc else ""])
    return table(["what", "whose", "user instructions", "of torc's"], rows)


def memory_table(cells):
    rows = []
    for cell in cells:
        of_how_many = f", of {cell['connections']:,}" if "connections" in cell else ""
        frames = f" in {counted(round(cell['frames']), 'frames')}" if "frames" in cell else ""
        rows.append([cell["what"] + of_how_many, NAMES[cell["contestant"]], f"{cell['bytes']:,.0f}{frames}"])
    return table(["what", "whose", "bytes"], rows)


def ratios_table(results):
    """A line for each cell: what torc takes, and of that the others."""
    cells = results["cells"]
    if results["work"] == "micro":
        rows = []
        for cell in cells:
            took = {name: one["ns"] for name, one in cell["contestants"].items()}
            rows.append([cell["step"].replace("_", " "), number(took["torc"]),
                         *[f"{took[name] / took['torc']:.2f}" if name in took else "" for name in ("asio", "hand")]])
        return table(["step", "torc, ns", "Asio", "by hand"], rows)
    names, rows = ratio_columns([cell["ratios_to_torc"] for cell in cells])
    rows = [[told(cell["numbers"]), number(next(cell["contestants"][name]["cpu_us"] for name in ("torc-uring", "torc")
                                                if name in cell["contestants"])), *row] for cell, row in zip(cells, rows)]
    return table([f"CPU of one {cells[0]['unit']}", "torc, io_uring, us", *names], rows)


def ratio_columns(ratios):
    """The heads of the columns, and a row for each of `ratios`."""
    others = [name for name in NAMES if any(name in each for each in ratios) and name not in ("torc", "torc-uring")]
    return [NAMES[name] for name in others], [[f"{each[name]:.2f}" if name in each else "" for name in others]
                                              for each in ratios]


def together(runs):
    """The medians of several runs of the same cells."""
    cells = runs[0]["cells"]
    ratios = []
    for cell in cells:
        same = [each["ratios_to_torc"] for run in runs for each in run["cells"] if each["numbers"] == cell["numbers"]]
        ratios.append({name: statistics.median(each[name] for each in same)
                       for name in same[0] if all(name in each for each in same)})
    names, rows = ratio_columns(ratios)
    return table([f"CPU of one {cells[0]['unit']}, of torc's on io_uring", *names],
                 [[told(cell["numbers"]), *row] for cell, row in zip(cells, rows)])


def measured(results):
    once = results["work"] in ("instructions", "memory")  # counted, so the same each time
    rounds = "" if once else f", medians of {results['rounds']} rounds or more"
    return f"Measured on {results['date']}{rounds}; {results['machine']['cpu']}.\n\n"


def tables(results):
    if results["work"] == "micro":
        return micro_table(results["cells"])
    if results["work"] == "instructions":
        return instructions_table(results["cells"])
    if results["work"] == "memory":
        return memory_table(results["cells"])
    return "\n".join(cell_table(cell) for cell in results["cells"])


def machine(results):
    told = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    return (f"{told['cpu']}, {told['cores']} cores, {told['memory_gib']} GiB, {told['system']}, Linux {told['kernel']}, "
            f"{told['compiler']}; {versions}.")


def plot(results, title, chosen, names, target):
    """CPU of one unit over the number of connections, a line for each of `names`."""
    cells = [cell for cell in results["cells"] if chosen(cell["numbers"])]
    with tempfile.TemporaryDirectory() as directory:
        lines = []
        for name in names:
            points = [(list(cell["numbers"].values())[-1], cell["contestants"][name]) for cell in cells
                      if name in cell["contestants"]]
            if not points:
                continue
            data = pathlib.Path(directory) / f"{name}.data"
            data.write_text("".join(f"{at} {one['cpu_us']} {one['cpu_us_least']} {one['cpu_us_most']}\n" for at, one in points))
            lines.append(f"'{data}' using 1:2:3:4 with yerrorlines pointtype 7 pointsize 0.5 title '{NAMES[name]}'")
        script = "\n".join([
            "set terminal svg size 720,400 dynamic background '#ffffff' font 'sans-serif,13'", f"set output '{target}'",
            f"set title '{title}'", "set logscale x", "set xlabel 'connections'",
            f"set ylabel 'CPU of one {cells[0]['unit']}, us'", "set yrange [0:*]", "set key outside right", "set grid",
            "plot " + ", ".join(lines), ""])
        subprocess.run(["gnuplot"], input=script, text=True, check=True)


def read(directory):
    return {file.stem: json.loads(file.read_text()) for file in sorted(directory.glob("*.json"))}


def main():
    if len(sys.argv) != 3:
        sys.exit("report.py RESULTS-DIRECTORY DOCS-DIRECTORY")
    found, docs = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    results = read(found)
    page = (HERE / "page.md").read_text()
    for work in ("echo", "check", "https", "server", "instructions", "micro", "memory"):
        page = page.replace(f"{{{{tables {work}}}}}",
                            measured(results[work]) + tables(results[work]) if work in results else "Not measured yet.\n")
    earlier = [read(found / name) for name in ("first", "second", "third", "fourth", "fifth", "sixth", "seventh")]
    for work, first in earlier[0].items():
        page = page.replace(f"{{{{ratios {work}}}}}", measured(first) + ratios_table(first))
    for work in ("echo", "check", "https", "server"):
        runs = [run[work] for run in (results, *earlier) if work in run]
        page = page.replace(f"{{{{together {work}}}}}", together(runs) if runs else "Not measured yet.\n")
    page = page.replace("{{machine}}", machine(next(iter(results.values()))) if results else "")
    pictures = docs / "plots"
    pictures.mkdir(parents=True, exist_ok=True)
    if "echo" in results:
        servers = ("torc-uring", "torc-epoll", "uring", "epoll", "asio-epoll", "asio-uring", "libuv")
        for size in sorted({cell["numbers"]["bytes"] for cell in results["echo"]["cells"]}):
            plot(results["echo"], f"echo of {size} bytes, ping-pong",
                 lambda numbers: numbers["bytes"] == size and numbers["mode"] == "ping-pong", servers,
                 pictures / f"echo-{size}.svg")
    if "check" in results:
        plot(results["check"], "plain checks of a site", lambda numbers: True,
             ("torc-uring", "torc-epoll", "uring", "epoll", "curl"), pictures / "check.svg")
    (docs / "benchmarks.md").write_text(page)


if __name__ == "__main__":
    main()
