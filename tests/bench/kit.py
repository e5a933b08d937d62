# SPDX-License-Identifier: GPL-2.0-or-later
"""What the benchmarks share: a place to work in, helpers built on the fly,
and measuring by turns.

Two things that are compared are measured one after the other, again and
again, in the same run: a machine that others use too is as slow for the one as
for the other. What counts is the median of the ratios of neighbours.
"""
import os
import shlex
import signal
import statistics
import subprocess
import sys
import time

import conftest

HERE = os.path.dirname(os.path.abspath(__file__))
FUSE = os.path.join(conftest.TOP, "subprojects", "fuse-3.18.3")
BUILD_FUSE = os.path.join(conftest.BUILD, "subprojects", "fuse-3.18.3")


class Missing(Exception):
    """The machine lacks something that a measurement needs."""


def say(text=""):
    print(text, flush=True)


def note(text):
    say(f"    note: {text}")


def run(*argv, **kw):
    """Run to the end; its output. Fails with what it said."""
    p = conftest.run(*argv, timeout=kw.pop("timeout", 600), **kw)
    if p.returncode:
        raise RuntimeError(f"{' '.join(p.args)}: exit {p.returncode}\n"
                           f"{p.stdout}")
    return p.stdout


class Bench:
    """One run: where it works, how long, and what it has to take away."""

    def __init__(self, base, args):
        self.base = base
        self.rounds = args.rounds or (3 if args.quick else 7)
        self.quick = args.quick
        self.undo = []
        self.missed = []

    def dir(self, *names):
        path = os.path.join(self.base, *names)
        os.makedirs(path, exist_ok=True)
        return path

    def later(self, call, *args):
        self.undo.append((call, args))

    def close(self):
        while self.undo:
            call, args = self.undo.pop()
            try:
                call(*args)
            except Exception as e:  # the rest is taken away all the same
                print(f"bench: {e}", file=sys.stderr)

    def domain(self, name, **kw):
        d = conftest.Domain(self.dir(name), **kw)
        self.later(d.close)
        d.format()
        return d

    # ---- helpers ----

    def compile(self, source, flags=(), libs=()):
        """The path of a program, built from a C or C++ file."""
        exe = os.path.join(self.dir("bin"), os.path.basename(source) + ".exe")
        if not os.path.exists(exe):
            cc = ["g++", "-std=c++17"] if source.endswith(".cc") else ["cc"]
            run(*cc, "-O2", "-w", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64",
                *flags, source, "-o", exe, *libs)
        return exe

    def fuse_example(self, name):
        """One of libfuse's examples, on the libfuse that we are linked
        with."""
        source = os.path.join(FUSE, "example", name)
        if not os.path.exists(source):
            raise Missing(f"no {name}: libfuse's sources are not unpacked in "
                          "subprojects/")
        static = os.path.join(BUILD_FUSE, "lib", "libfuse3.a")
        if os.path.exists(static):
            return self.compile(source, [f"-I{FUSE}/include",
                                         f"-I{BUILD_FUSE}"],
                                [static, "-lpthread", "-ldl"])
        flags = shlex.split(run("pkg-config", "--cflags", "fuse3"))
        libs = shlex.split(run("pkg-config", "--libs", "fuse3"))
        return self.compile(source, [*flags, f"-I{BUILD_FUSE}"], libs)

    def serve(self, at, *argv):
        """Start a FUSE server in the foreground and wait for its mount; its
        process, which ends with the run at the latest."""
        log = open(os.path.join(self.base, os.path.basename(argv[0]) +
                                ".log"), "ab")
        p = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL,
                             stdout=log, stderr=log)
        self.later(log.close)
        self.later(end, p, at)
        give_up = time.monotonic() + 10
        while not conftest.mount_line(at):
            if p.poll() is not None or time.monotonic() > give_up:
                with open(log.name, errors="replace") as f:
                    raise Missing(f"{argv[0]} does not mount: {f.read()}")
            time.sleep(0.02)
        return p

    # ---- measuring ----

    def by_turns(self, rounds=None, **measures):
        """{name: [value in each round]}; a measure that is not there (None)
        is left out."""
        measures = {k: m for k, m in measures.items() if m}
        values = {k: [] for k in measures}
        names = list(measures)
        for i in range(rounds or self.rounds):
            # The other one first each second time.
            for k in names if i % 2 == 0 else reversed(names):
                values[k].append(measures[k]())
        return values

    def compare(self, what, ours, theirs, under=None, over=None):
        """Print the ratio, and whether it is what we aim at."""
        r = [a / b for a, b in zip(ours, theirs)]
        self.judge(what, r, "{:.2f}", under, over)
        return statistics.median(r)

    def judge(self, what, values, form, under=None, over=None):
        m = statistics.median(values)
        verdict = ""
        if under is not None or over is not None:
            good = m < under if under is not None else m > over
            word = f"under {under}" if under is not None else f"over {over}"
            verdict = f"   aim: {word}, {'met' if good else 'MISSED'}"
            if not good:
                self.missed.append(f"{what}: {form.format(m)}, aim {word}")
        say(f"    {what:<52} {spread(values, form)}{verdict}")


def spread(values, form="{:.2f}"):
    m = form.format(statistics.median(values))
    low, high = (form.format(f(values)) for f in (min, max))
    return f"{m:>9} ({low} - {high})"


def show(what, values, form, unit):
    say(f"    {what:<52} {spread(values, form)} {unit}")


def end(process, at):
    """End a server that was started here, and its mount."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if conftest.mount_line(at):
        conftest.detach(at)


def seconds(call, *args):
    start = time.monotonic()
    call(*args)
    return time.monotonic() - start
