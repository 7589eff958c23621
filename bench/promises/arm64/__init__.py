"""The whole runtime in emulated ARM user spaces: the project's own wheel, the registry's ARM wheels, x86's scores.

    python -m bench.promises.arm64 [--suite bookworm|trixie|armv7 ...] [--only onnx|tflite] [--keep DIR] [--qemu DIR]

| suite    | Debian                 | Python | engines                                       | processors       |
| -------- | ---------------------- | ------ | --------------------------------------------- | ---------------- |
| bookworm | 12, 64-bit             | 3.11   | onnxruntime, ai-edge-litert                   | Pi 4's and Pi 5's |
| trixie   | 13, 64-bit             | 3.13   | onnxruntime, ai-edge-litert                   | Pi 4's and Pi 5's |
| armv7    | 12, 32-bit             | 3.11   | tflite-runtime, float file, Debian's NumPy 1  | Pi 2's           |

The machine needs Debian's `debootstrap` and `qemu-user-static`, root (for chroot and for the kernel's binfmt_misc) and
a network. In Debian bookworm the emulator comes from bookworm-backports: qemu 7.2 crashes in ai-edge-litert.

    apt-get install debootstrap && apt-get install -t bookworm-backports qemu-user-static

What happens, step by step (`root.py` has the first three, `compare.py` the rest):

1. binfmt_misc is mounted where it is not, and qemu is registered for ARM programs, as `edgekd-arm64`, with flag F: the
   kernel keeps the emulator open, so that it also works inside a chroot. The entry is removed at the end.
2. `debootstrap --arch=arm64 --variant=minbase --include=python3-venv SUITE ROOT MIRROR`, once: the root is kept in DIR
   (bench/arm64/cache). This takes ten minutes or more, since Debian's own install scripts run emulated.
3. Inside the root, as on a board: `python3 -m venv /opt/onnx` and `pip install -c constraints.txt
   'edgekd-….whl[onnx]'`, then the same in /opt/tflite. pip runs inside, emulated, because only there the extras'
   markers are judged for the board's processor and Python. 32-bit: the environment sees Debian's NumPy, without
   constraints, which are for 64 bits. The wheel is built from a copy of the working tree.
4. The student (bench/trained/smd-1-2.pt; without it or without EDGEKD_DATA one trained on a simulated plant) is
   exported here, float and int8; the recording is 5,000 samples of SMD machine-1-2's test part with two alarms.
5. `edgekd-run --check` and `edgekd-run --csv recording.csv --scores` run here and, through chroot and with an empty
   environment, there, once for each processor model. Required: the self-test passes, as many scores, their errors
   |ARM - x86| / max(|x86|, threshold) at most 1e-4 (float) or the manifest's self-test tolerance (int8), equal events.

A full run is saved in bench/results/arm64.json. Exit codes: 0 all holds, 1 something does not (said which), 77 skipped,
with the reason in one line. Emulated times mean nothing, so none are kept. `pytest -m nightly` runs it, too.
"""
