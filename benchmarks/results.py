"""Runs the benchmarks and writes their output to `benchmarks/RESULTS.md`.

    python benchmarks/results.py [SECTION ...]

Without a section all of them run, which takes about two hours on two cores. A section that is
not run keeps the text that it has in the file.
"""

import argparse
import datetime
import importlib.metadata
import importlib.util
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
FILE = HERE / "RESULTS.md"
PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy", "keras-winit")

# For each section, the arguments of its benchmark.
SECTIONS = {
    "import_time": [],
    "compile_time": ["--rounds", "2"],
    "monitor": ["--rounds", "2"],
    "initializers": ["--rounds", "3"],
    # This benchmark runs once, because its slopes count and not its seconds.
    "scaling": [],
    "faults": ["--kills", "200", "--tries", "10", "--fits", "1000"],
    # The measurements of these take many hours: the sections show those in their `.jsonl`.
    "applications": ["--table"],
    "diagnosis": ["--table"],
    "trainability": ["--table"],
}

HEAD = """# Benchmark results

Written by `python benchmarks/results.py`; each section says when, where and with what it ran.
Ratios compare runs that took turns in one session on the same machine. They are CPU seconds over
all threads unless a line says otherwise, since wall time on a shared machine says little.
"""


def machine():
    """Return one line on the processor, its cores, the system and the versions."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    processor = names[0] if names else platform.processor()
    versions = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return f"{processor}, {os.cpu_count()} cores, {platform.system()}; {', '.join(versions)}"


def summary_of(name):
    """Return the first paragraphs of a benchmark's docstring, without its usage lines."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    paragraphs = module.__doc__.strip().split("\n\n")
    return "\n\n".join(p for p in paragraphs if not p.startswith("    "))


def section(name):
    """Run one benchmark and return its part of the page."""
    command = [sys.executable, str(HERE / f"{name}.py"), *SECTIONS[name]]
    start = datetime.datetime.now()
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        lines = []
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip())
    if process.returncode:
        sys.exit(f"{name}.py failed: the section was left as it is")
    minutes = (datetime.datetime.now() - start).total_seconds() / 60
    shown = " ".join(["python", f"benchmarks/{name}.py", *SECTIONS[name]])
    return "\n".join(
        [
            summary_of(name),
            "",
            f"`{shown}`, {start:%Y-%m-%d}, {minutes:.0f} minutes, on {machine()}.",
            "",
            "```",
            *lines,
            "```",
        ]
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    chosen = parser.parse_args().sections or list(SECTIONS)
    if unknown := sorted(set(chosen) - set(SECTIONS)):
        parser.error(f"there is no section {unknown[0]!r}: choose from {', '.join(SECTIONS)}")
    text = FILE.read_text() if FILE.exists() else ""
    parts = dict(re.findall(r"^## (\w+)\n\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE))
    for name in chosen:
        parts[name] = section(name)
        # The page is written after each section, so that an interrupt loses one at most.
        body = [f"## {n}\n\n{parts[n].strip()}\n" for n in SECTIONS if n in parts]
        FILE.write_text("\n".join([HEAD, *body]))


if __name__ == "__main__":
    main()
