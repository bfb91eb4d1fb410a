#!/usr/bin/env python3
"""The GPU tests under one tool of compute-sanitizer, a process for each test, a few at a time.

A process each, because an error leaves the device unusable to what follows in the same process.
Writes what every test did to one JSON file; ends with 1 where one has a finding, fails or runs out
of time. Called by ./dev gpu sanitize.
"""
import argparse
import concurrent.futures
import json
import os
import re
import subprocess
import sys
import time


def list_tests(program, test_filter):
    """Full names of the tests that the filter leaves."""
    command = [program, "--gtest_list_tests", f"--gtest_filter={test_filter}"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    names, suite = [], ""
    for line in lines:
        name = line.split("#")[0].rstrip()
        if name.endswith(".") and not name.startswith(" "):
            suite = name
        elif name.startswith("  ") and suite:
            names.append(suite + name.strip())
    return names


def run_test(arguments, name):
    """One test's row; its whole output goes to stderr where it is not clean."""
    command = [arguments.sanitizer, "--tool", arguments.tool, "--error-exitcode", "3"]
    for part in arguments.exclude_kernels.split(","):
        command += ["--kernel-name-exclude", f"kernel_substring={part}"]
    command += [arguments.program, f"--gtest_filter={name}"]
    begin = time.monotonic()
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                              timeout=arguments.limit_s, check=False)
        output, status = done.stdout, str(done.returncode)
    except subprocess.TimeoutExpired as expired:
        output, status = (expired.stdout or b"").decode(errors="replace"), "out of time"
    summaries = re.findall(r"^=+ ((?:RACECHECK |ERROR )?SUMMARY: .*)$", output, re.MULTILINE)
    passed = "[  PASSED  ] 1 test" in output
    row = {"test": name, "exit_status": status, "passed": passed, "seconds": round(time.monotonic() - begin, 1),
           "summary": summaries[-1] if summaries else None}
    row["clean"] = status == "0" and passed and bool(summaries)
    print(f"{'clean' if row['clean'] else 'FINDING':8} {row['seconds']:6.1f} s  {name}: {row['summary']}", flush=True)
    if not row["clean"]:
        print("\n".join(output.splitlines()[:60]), file=sys.stderr, flush=True)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sanitizer", required=True, help="compute-sanitizer")
    parser.add_argument("--tool", required=True, choices=["memcheck", "racecheck"])
    parser.add_argument("--program", required=True, help="comet_gpu_test")
    parser.add_argument("--filter", required=True, help="gtest's filter")
    parser.add_argument("--exclude-kernels", required=True, help="parts of kernels' names, comma-separated")
    parser.add_argument("--limit-s", type=float, default=120, help="for one test")
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--json", required=True, help="the result file")
    arguments = parser.parse_args()
    names = list_tests(arguments.program, arguments.filter)
    if not names:
        sys.exit(f"sanitize: no test matches {arguments.filter}")
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        rows = list(pool.map(lambda name: run_test(arguments, name), names))
    version = subprocess.run([arguments.sanitizer, "--version"], capture_output=True, text=True, check=True).stdout
    report = {"tool": arguments.tool, "version": (re.findall(r"Version ([\d.]+)", version) or ["unknown"])[0],
              "excluded_kernels": arguments.exclude_kernels.split(","),
              "num_clean": sum(row["clean"] for row in rows), "num_tests": len(rows), "tests": rows}
    with open(arguments.json + ".part", "w", encoding="utf-8") as file:
        json.dump(report, file, indent=1)
        file.write("\n")
    os.replace(arguments.json + ".part", arguments.json)
    print(f"{arguments.tool} {report['version']}: {report['num_clean']} of {len(rows)} tests clean")
    sys.exit(report["num_clean"] != len(rows))


if __name__ == "__main__":
    main()
