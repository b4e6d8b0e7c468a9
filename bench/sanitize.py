"""All our CUDA kernels under compute-sanitizer: the plugin's, and those compiled at run time.

    python bench/sanitize.py samtrt_plugin.so --json sanitize.json

Runs `bench/kernels.py --small`, watching our own kernels alone, and `bench/device.py kernels
--small` under memcheck and racecheck, and sorts the reports. One that names a kernel (`at
NAME+0x... in FILE`, or a hazard) is a fault of ours. One about a call of CUDA's own interface that
returned an error is not: cuda-bindings asks the driver for every function that any version has
(`cuGetProcAddress`), and PyTorch asks whether pointers are CUDA's; both take the error as the
answer. Such reports are counted by call. Ends with exit code 1 where a kernel was reported or a
run was wrong.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

BENCH = Path(__file__).parent
SUBJECTS = ("plugin", "masks and preparation")
CALL = re.compile(r"on CUDA API call to (\w+)")


def reports(log: str) -> list[str]:
    """Split a log of compute-sanitizer into its reports."""
    lines = [line.removeprefix("=========") for line in log.splitlines()]
    blocks: list[list[str]] = [[]]
    for line in lines:
        # What belongs to a report is indented further than its first line, or empty.
        if line.startswith("     ") or not line.strip():
            blocks[-1].append(line)
        else:
            blocks.append([line])
    texts = ("\n".join(block).strip() for block in blocks)
    named = ("COMPUTE-SANITIZER", "ERROR SUMMARY", "RACECHECK SUMMARY", "Target application")
    return [text for text in texts if text and not text.startswith(named)]


def sort_out(log: str) -> dict[str, Any]:
    """Return the reports of kernels, and how many there are of each call of CUDA's interface."""
    calls: Counter[str] = Counter()
    kernels = []
    for report in reports(log):
        if call := CALL.search(report):
            calls[call[1]] += 1
        else:
            kernels.append(report)
    return {"kernels": kernels, "calls": dict(calls)}


def run(tool: str, script: list[str], kernels: str, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = ["compute-sanitizer", "--tool", tool, "--log-file", str(log)]
        if kernels:  # PyTorch's own, which inputs and references are made with, take minutes
            command += ["--kernel-name", f"kernel_substring={kernels}"]
        command.append(sys.executable)
        try:
            done = subprocess.run(
                [*command, *script], capture_output=True, text=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired:
            return {"error": f"not done after {seconds:.0f} s"}
        text = log.read_text(errors="replace") if log.exists() else ""
    last = (done.stdout.strip() or done.stderr.strip()).splitlines()[-1:]
    summary = re.findall(r"(?:ERROR|RACECHECK) SUMMARY: (.*)", text)
    return {"exit_code": done.returncode, "said": last, "summary": summary, **sort_out(text)}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("library", type=Path)
    parser.add_argument("--tools", nargs="+", default=["memcheck", "racecheck"])
    parser.add_argument("--subjects", nargs="+", default=SUBJECTS, choices=SUBJECTS)
    parser.add_argument("--types", nargs="+", default=["float16"])
    parser.add_argument("--seconds", type=float, default=600, help="for each run")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if shutil.which("compute-sanitizer") is None:
        parser.error("compute-sanitizer, which comes with the CUDA toolkit, is not on PATH")
    library = str(options.library.resolve())
    plugin = [str(BENCH / "kernels.py"), library, "--small", "--types", *options.types]
    # By the namespace that all of ours are in.
    runs = ((plugin, "samtrt"), ([str(BENCH / "device.py"), "kernels", "--small"], ""))
    subjects = dict(zip(SUBJECTS, runs, strict=True))
    result: dict[str, Any] = {}
    clean = True
    for tool in options.tools:
        for name in options.subjects:
            script, kernels = subjects[name]
            found = result[f"{tool}, {name}"] = run(tool, script, kernels, options.seconds)
            good = found.get("exit_code") == 0 and found["summary"] and not found["kernels"]
            clean = clean and bool(good)
            print(f"{tool}, {name}: {'clean' if good else 'NOT clean'}", flush=True)
            print(f"    {found.get('error') or (found['said'], found['summary'], found['calls'])}")
            for report in found.get("kernels", [])[:3]:
                print("    " + report[:600].replace("\n", "\n    "))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
