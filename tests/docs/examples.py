#!/usr/bin/env python3
"""The programs of the guide, compiled and run.

generate OUTPUT PAGE...   writes one C++ source with every ```cpp block that defines example(), in a namespace each
check PROGRAM PAGE...     runs every block and compares what it prints with the ```text block beneath it; a block marked
                          `dies` must end by a signal and say the text on standard error; a whole program must stand,
                          word for word, among the examples beside the pages, which are built and run as well
"""
import pathlib
import re
import subprocess
import sys

BLOCK = re.compile(r"^```cpp([^\n]*)\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", re.S | re.M)

PREAMBLE = """#include <fmt/format.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>

#include <torc/http.hpp>
#include <torc/runtime/sim.hpp>

using namespace torc;
"""


def blocks(pages):
    for page in pages:
        text = open(page, encoding="utf-8").read()
        for found in BLOCK.finditer(text):
            if "task<> example()" in found[2]:
                line = text.count("\n", 0, found.start()) + 1
                yield f"{page.rsplit('/', 1)[-1]}:{line}", found[1].strip(), found[2], found[3] or ""


def whole_programs(pages):
    for page in pages:
        for found in BLOCK.finditer(open(page, encoding="utf-8").read()):
            if "int main(" in found[2]:
                yield page, found[2]


def words(program):
    """What counts of a program: not its comments' lines, nor its blank ones."""
    return [line for line in program.splitlines() if line.strip() and not line.startswith("//")]


def generate(output, pages):
    source, cases = PREAMBLE, ""
    for number, (_, _, code, _) in enumerate(blocks(pages)):
        source += f"\nnamespace block_{number} {{\n{code}}}\n"
        cases += f"        case {number}: return torc::run(block_{number}::example());\n"
    source += "\nint main(int, char** arguments) {\n    switch (std::atoi(arguments[1])) {\n"
    source += cases + "        default: return 2;\n    }\n}\n"
    open(output, "w", encoding="utf-8").write(source)


def check(program, pages):
    passed = failed = 0
    for number, (place, kind, _, expected) in enumerate(blocks(pages)):
        ran = subprocess.run([program, str(number)], capture_output=True, text=True, timeout=60)
        if kind == "dies":
            good = ran.returncode < 0 and expected.strip() in ran.stderr
        else:
            good = ran.returncode == 0 and ran.stdout == expected and not ran.stderr
        passed, failed = passed + good, failed + (not good)
        if not good:
            print(f"{place}: expected {expected!r}, status {ran.returncode}, said {ran.stdout!r} and {ran.stderr!r}")
    for page, program in whole_programs(pages):
        examples = pathlib.Path(page).parent.joinpath("examples").glob("*.cpp")
        good = any(words(program) == words(each.read_text()) for each in examples)
        passed, failed = passed + good, failed + (not good)
        if not good:
            print(f"{page}: the program is none of the examples")
    print(f"test cases: {passed + failed} | {passed} passed | {failed} failed")
    return 0 if passed and not failed else 1


if sys.argv[1] == "generate":
    generate(sys.argv[2], sys.argv[3:])
else:
    sys.exit(check(sys.argv[2], sys.argv[3:]))
