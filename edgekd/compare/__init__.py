"""Cost of detectors side by side: size, arithmetic, latency, start, memory, parity of what was timed, and quality.

`run.bench` is the whole of it; `edgekd bench` prints it. Modules: `subjects` (what is timed), `timing` (in turn, one
thread), `fresh` (a process of its own), `parity`, `machine`, `table`. None of them needs torch to time an exported
file, so that the same command runs on a device.
"""
