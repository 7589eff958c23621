#!/bin/sh
# How EdgeKD 0.1.0 made the files of this folder: in an empty folder, with PYTHONPATH naming a checkout of 0.1.0,
#     OMP_NUM_THREADS=1 sh make.sh
# What differs from a user's files: the teacher is as narrow as its student, for a published one takes 26 MB.
set -e

edgekd() { python -c "$narrow; import sys; sys.argv[0] = 'edgekd'; from edgekd.cli import main; main()" "$@"; }
edgekd_run() { python -m edgekd.runtime.cli "$@"; }
narrow="
from dataclasses import replace
from edgekd.methods.lta.config import LTAConfig
published = LTAConfig.teacher
LTAConfig.teacher = lambda config: replace(published(config), levels=2, channels=4)"

edgekd simulate normal.csv --samples 1200 --sensors 4 --fault-free --seed 1
edgekd simulate faults.csv --samples 2400 --sensors 4 --seed 2
head -n 721 faults.csv > recording.csv
edgekd distill normal.csv -o student.pt --preset quick \
    --set epochs=1 --set teacher_epochs=1 --set teacher_hop=60 --set teacher_batch=8 --set channels=4
edgekd export student.pt
edgekd export student.pt -o student.tflite
edgekd_run --model student.onnx --csv recording.csv --scores > onnx.jsonl
edgekd_run --model student.tflite --csv recording.csv --scores > tflite.jsonl
edgekd evaluate student.pt recording.csv --scores student.csv
edgekd evaluate student-teacher.pt recording.csv --scores student-teacher.csv

cat > edgekd.toml <<END
model = "student.onnx"
csv = "recording.csv"
state = "state"
exec = "false"
exec-retry = "1h"
END
head -n 564 recording.csv > begun.csv
# within a hop and an episode; a command that always fails: what it was to be told stays in state.spool
edgekd_run --config edgekd.toml --csv begun.csv > /dev/null
rm -f normal.csv faults.csv begun.csv state.lock
