#!/usr/bin/env python3
"""Reads the event files of a training run (comet vision train --tensorboard) with TensorBoard's own
reader and compares them with log.jsonl. Needs PyPI's tensorboard. Usage: check_event_files.py RUN"""
import json
import pathlib
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

RELATIVE = 1e-6  # event files hold FP32


def compare(name, found, expected):
    assert [step for step, _ in found] == [step for step, _ in expected], f"{name}: other steps"
    for (step, a), (_, b) in zip(found, expected):
        assert abs(a - b) <= RELATIVE * max(abs(b), 1e-30), f"{name} at step {step}: {a}, not {b}"
    print(f"{name}: {len(found)} values are log.jsonl's")


def main():
    run = pathlib.Path(sys.argv[1])
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["type"] == "step"]
    epochs = [line for line in lines if line["type"] == "epoch"]
    for tag in events.Tags()["scalars"]:
        part, field = tag.split("/")
        if part == "train":
            expected = [(line["step"], line[field]) for line in steps]
        elif part == "epoch":
            expected = [(line["step"], line[field]) for line in epochs]
        else:
            expected = [(line["step"], line[part][field]) for line in epochs if part in line]
        compare(tag, [(event.step, event.value) for event in events.Scalars(tag)], expected)


if __name__ == "__main__":
    main()
