# SPDX-License-Identifier: GPL-2.0-or-later
"""Many volumes: ls -lR against a plain passthrough mount of the same tree,
the time that a mount takes, and the memory that a volume takes."""
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import kit
from kit import conftest

THREADS = 32
SMALL = 100


def make_volume(path):
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o660))


def fill(d, count, images):
    """count volumes in so many images, through the mount."""
    dirs = [os.path.join(d.new_image(), "volumes") for _ in range(images)]
    paths = [os.path.join(dirs[i % images], conftest.new_uuid())
             for i in range(count)]
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(make_volume, paths))


def copy_tree(source, target):
    """The same directories and files, empty and plain."""
    for path, dirs, files in os.walk(source):
        at = os.path.join(target, os.path.relpath(path, source))
        for name in dirs:
            os.makedirs(os.path.join(at, name), exist_ok=True)
        for name in files:
            with open(os.path.join(at, name), "x"):
                pass


def list_all(path):
    subprocess.run(["ls", "-lR", path], stdout=subprocess.DEVNULL,
                   env=dict(os.environ, LC_ALL="C"), check=True)


class Many:
    """A domain of many volumes and one of few, made once for all cases."""

    made = None

    def __init__(self, bench):
        self.bench = bench
        self.count = 1000 if bench.quick else 10000
        self.big = bench.domain("many")
        self.small = bench.domain("few")
        kit.say(f"making {self.count} volumes ...")
        self.big.mount()
        took = kit.seconds(fill, self.big, self.count, self.count // 100)
        self.big.unmount()
        self.small.mount()
        fill(self.small, SMALL, 1)
        self.small.unmount()
        kit.show(f"{THREADS} threads", [took / self.count * 1000], "{:.2f}",
                 "ms a volume")

    @classmethod
    def get(cls, bench):
        cls.made = cls.made or cls(bench)
        return cls.made


# ---- ls -lR ----

def passthrough(b, name, tree, *options):
    """Where the tree shows through libfuse's example; None without it."""
    at = b.dir("through-" + name)
    try:
        b.serve(at, b.fuse_example(name), *options, tree, at) \
            if name.endswith(".cc") else \
            b.serve(at, b.fuse_example(name), "-f", "-o", f"source={tree}",
                    at)
    except (kit.Missing, RuntimeError) as e:
        kit.note(e)
        return None
    return at


def bench_ls(b):
    many = Many.get(b)
    d = many.big.mount()
    tree = b.dir("tree")
    copy_tree(d.images, tree)
    places = {
        "mount": d.images,
        "high": passthrough(b, "passthrough_hp.cc", tree, "--foreground"),
        "plain": passthrough(b, "passthrough_ll.c", tree),
        "bare": tree,
    }
    kit.say(f"ls -lR on {many.count} volumes, warm")
    for path in filter(None, places.values()):
        list_all(path)
        list_all(path)
    v = b.by_turns(6 * b.rounds, **{
        k: (lambda p=p: kit.seconds(list_all, p) * 1000)
        for k, p in places.items() if p})
    names = {"mount": "mount", "bare": "bare tree",
             "high": "through passthrough_hp (caches for a day)",
             "plain": "through passthrough_ll (caches for a second)"}
    for k, values in v.items():
        kit.show(names[k], values, "{:.0f}", "ms")
    # The one that caches as long as we do is the harder one to match.
    aim = {"high": 1.2} if "high" in v else {"plain": 1.2}
    for k in v:
        if k != "mount":
            b.compare(f"against {names[k]}", v["mount"], v[k],
                      under=aim.get(k))
    d.unmount()


# ---- mount time and memory ----

def mount(d):
    """As a user does: the command returns when the mount answers."""
    conftest.run(d.exe, "mount", d.source, d.mnt, "-o",
                 d.options(), check=0)


def rss(d):
    """KiB of server and keeper."""
    status = d.status()
    total = 0
    for key in ("server_pid", "keeper_pid"):
        with open(f"/proc/{status[key]}/status") as f:
            total += sum(int(line.split()[1]) for line in f
                         if line.startswith("VmRSS:"))
    return total


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("3\n")


class Mounting:
    def __init__(self, d, cold=False):
        self.d = d
        self.cold = cold
        self.fresh = []
        self.listed = []

    def __call__(self):
        if self.cold:
            drop_caches()
        took = kit.seconds(mount, self.d)
        self.fresh.append(rss(self.d))
        list_all(self.d.images)
        self.listed.append(rss(self.d))
        self.d.unmount()
        return took


def per_volume(many, big, small):
    return [(a - b) * 1024 / (many.count - SMALL)
            for a, b in zip(big, small)]


def bench_mount(b):
    many = Many.get(b)
    kit.say(f"mount a domain of {many.count} volumes")
    big, small = Mounting(many.big), Mounting(many.small)
    v = b.by_turns(big=big, small=small)
    b.judge("seconds", v["big"], "{:.2f}", under=3)
    kit.show(f"seconds for {SMALL} volumes", v["small"], "{:.2f}", "")
    cold = b.by_turns(2, cold=Mounting(many.big, cold=True))["cold"]
    b.judge("seconds with nothing in the page cache", cold, "{:.2f}", under=3)
    for what, m in ((many.count, big), (SMALL, small)):
        kit.show(f"KiB, server + keeper, {what} volumes", m.fresh, "{:.0f}",
                 "")
    for what, a, c in (("mounted", big.fresh, small.fresh),
                       ("after ls -lR", big.listed, small.listed)):
        b.judge(f"bytes a volume, {what}", per_volume(many, a, c), "{:.0f}",
                under=2048)
