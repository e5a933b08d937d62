# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes of a volume by fio: against its backing file, and against
qemu-storage-daemon's FUSE export of that same file."""
import json
import os
import shutil

import kit
from kit import conftest

# name, then what fio is told. The aims are for direct I/O; what the page cache
# answers is shown beside it.
JOBS = [
    ("4 KiB random read, depth 1", "randread", "4k", 1, True),
    ("4 KiB random read, depth 16", "randread", "4k", 16, True),
    ("4 KiB random write, depth 1", "randwrite", "4k", 1, True),
    ("4 KiB random write, depth 16", "randwrite", "4k", 16, True),
    ("1 MiB sequential read", "read", "1m", 4, True),
    ("1 MiB sequential write", "write", "1m", 4, True),
    ("4 KiB random read, buffered", "randread", "4k", 1, False),
    ("4 KiB random write, buffered", "randwrite", "4k", 1, False),
]


def fio(path, rw, bs, depth, direct, runtime):
    """Operations a second."""
    out = kit.run(
        "fio", "--name=bench", f"--filename={path}", f"--rw={rw}",
        f"--bs={bs}", f"--iodepth={depth}", f"--direct={int(direct)}",
        f"--ioengine={'libaio' if direct else 'psync'}", "--norandommap",
        "--time_based", f"--runtime={runtime}", "--ramp_time=0.2",
        "--allow_file_create=0", "--invalidate=0", "--fallocate=none",
        "--output-format=json")
    job = json.loads(out[out.index("{"):])["jobs"][0]
    return job["read"]["iops"] + job["write"]["iops"]


def export(b, name, file):
    """qemu-storage-daemon's FUSE export and its process, or None."""
    if not shutil.which("qemu-storage-daemon"):
        kit.note("no qemu-storage-daemon: nothing to compare with")
        return None, None
    at = os.path.join(b.dir(name), "export")
    with open(at, "w"):
        pass
    try:
        p = b.serve(at, "qemu-storage-daemon", "--blockdev",
                "driver=file,node-name=file,locking=off,cache.direct=on,"
                f"aio=native,filename={file}", "--export",
                "type=fuse,id=export,node-name=file,writable=on,"
                f"allow-other=off,mountpoint={at}")
    except kit.Missing as e:
        kit.note(e)
        return None, None
    return at, p


def write_all(path, size):
    """Every block, so that nothing is allocated while we measure."""
    with open(path, "r+b", buffering=0) as f:
        block = os.urandom(1 << 20)
        for _ in range(size >> 20):
            f.write(block)
        os.fsync(f.fileno())


def bench_on(b, name, where, native=None, exported=None):
    if not shutil.which("fio"):
        raise kit.Missing("no fio")
    size = (128 if b.quick else 1024) << 20
    d = conftest.Domain(where)
    b.later(d.close)
    d.format()
    d.mount()
    volume = d.new_volume(size=size)
    file = d.stored(volume)
    write_all(volume, size)
    exporting, daemon = export(b, "export-" + name, file)
    places = {"volume": volume, "file": file, "export": exporting}
    kit.say(f"bytes of a volume of {size >> 20} MiB, {name}")
    runtime = 1 if b.quick else 2
    for what, *job in JOBS:
        v = b.by_turns(**{
            k: (lambda p=p: fio(p, *job, runtime))
            for k, p in places.items() if p})
        kit.say(f"  {what}: " + ", ".join(
            f"{k} {kit.spread(x, '{:.0f}').strip()}" for k, x in v.items()) +
            " a second")
        direct = job[-1]
        b.compare(f"of the backing file ({what})", v["volume"], v["file"],
                  over=native if direct else None)
        if "export" in v:
            b.compare(f"times the export ({what})", v["volume"], v["export"],
                      over=exported if direct else None)
            # More than this nobody can have.
            b.compare("    the backing file itself", v["file"], v["export"])
    opened = d.status()["open"]
    if opened["passthrough_refused"]:
        kit.note("passthrough was refused for some of it")
    # While another can write the bytes, a mount keeps the lease.
    if daemon:
        kit.end(daemon, exporting)
    d.unmount()


def bench_disk(b):
    bench_on(b, "on disk", b.dir("disk"), native=0.9)


def bench_memory(b):
    where = b.dir("memory")
    kit.run("mount", "-t", "tmpfs", "-o", "size=3g", "ovstorfs-bench", where)
    b.later(conftest.detach, where)
    bench_on(b, "in memory", where, exported=4)
