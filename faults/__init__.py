"""Fault campaigns: the project given what it must not break on, for as long as one likes; `python -m faults PART`.

They stand beside benchmarks/, and not in tests/: a test takes seconds, says yes or no, and is run at every change. A
campaign takes as long as it is told, states its seed, looks for what nobody has thought of, and writes a report. What
it finds is mended, and kept as a test; tests/faults/ runs a small share of it.

    mutations.py   bytes and JSON, spoiled
    formats.py     images, tars, files of tensors and records, spoiled field by field
    kind.py        what is spoiled, what reads it, and what the same meaning is: what all kinds have in common
    kinds.py       the kinds, most of them files
    served.py      kinds of serving: what an export says of itself, is asked, and answers
    workers.py     cases in a process of their own, within bounds of time and memory
    report.py      what came of it, as JSON and as a table
    inputs.py      the campaign of inputs

    commands.py    commands as forks of a process that has imported TensorFlow; the tests run theirs so, too
    watched.c      preloaded into a command: counts its file operations, at one kills it or fails it, writes a trace
    watched.py     what is watched, and what happens; reads traces
    power.py       what a disk holds after a power cut, by a trace
    scenes.py      commands at work in a folder: which, what they begin with, what must be the same at the end
    stage.py       where scenes are played
    kills.py       commands that are killed
    disks.py       disks that fail, power that is cut
    pairs.py       two commands in one folder at once
    numbers.py     numbers that overflow, images that are few or alike
    parts.py       what these four have in common: shares of cases, the loop, the report

    model_server.py   a stand-in for TensorFlow Serving; the tests and benchmarks use it, too
    compiler.py       the C compiler
    c_library.py      compiles C programs on TensorFlow's C library; saved_model.h is what they share
    load.c            asks an export from several threads, checks the answers, changes exports
    swapped.py        versions that take one another's place, and what they must answer
    targets.py        what is put under load: the stand-in with its clients, and load.c
    load.py           the load: rows of latencies and memory, what came of requests
"""
