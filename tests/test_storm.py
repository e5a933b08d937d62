# SPDX-License-Identifier: GPL-2.0-or-later
"""32 threads doing random verbs over 50 images, under the sanitizers."""
import errno
import os
import random
import re
import threading
import time

import pytest

from conftest import EXE, LONG, QUICK, get, lacking, new_uuid, put

SECONDS = 300 if LONG else 15
THREADS = 32
IMAGES = 50

# Whatever order they come in, nothing else may be answered.
EXPECTED = {errno.EEXIST, errno.ENOENT, errno.ENOTEMPTY, errno.EBUSY,
            errno.EROFS, errno.EINVAL, errno.EPERM, errno.ESTALE,
            errno.EUCLEAN, errno.ENODATA}


class Storm:
    def __init__(self, d, seed):
        self.d = d
        self.seed = seed
        self.images = [new_uuid() for _ in range(IMAGES)]
        # Few enough names that threads meet at them.
        self.volumes = {i: [new_uuid() for _ in range(6)]
                        for i in self.images}
        self.end = time.monotonic() + SECONDS
        self.done = {}
        self.unexpected = []
        self.lock = threading.Lock()

    def image(self, r):
        return r.choice(self.images)

    def image_path(self, i):
        return os.path.join(self.d.images, i)

    def volume(self, r):
        i = self.image(r)
        return os.path.join(self.image_path(i), "volumes",
                            r.choice(self.volumes[i]))

    # ---- verbs ----

    def mkdir(self, r):
        os.mkdir(self.image_path(self.image(r)))

    def touch(self, r):
        os.close(os.open(self.volume(r), os.O_CREAT | os.O_EXCL | os.O_WRONLY))

    def raw(self, r):
        """A raw volume that is open: no layer can be made of it meanwhile,
        whose header noise would destroy."""
        volume = self.volume(r)
        f = open(volume, "r+b", buffering=0)
        if get(volume, "format") != "raw":
            f.close()
            raise OSError(errno.EBUSY, "a layer")
        return f

    def write(self, r):
        with self.raw(r) as f:
            os.pwrite(f.fileno(), r.randbytes(5000), r.randrange(1 << 20))
            if r.random() < 0.3:
                os.fsync(f.fileno())
            if r.random() < 0.3:
                f.truncate(r.randrange(1 << 20))

    def read(self, r):
        with open(self.volume(r), "rb") as f:
            f.read()

    def truncate(self, r):
        # Upwards only spares the headers of layers; down is in write.
        os.truncate(self.volume(r), r.randrange(1 << 20, 1 << 21))

    def describe(self, r):
        put(self.volume(r), "description", str(r.random()))

    def describe_image(self, r):
        put(self.image_path(self.image(r)), "description", str(r.random()))

    def set_allocation(self, r):
        put(self.volume(r), "allocation",
            r.choice(["sparse", "preallocated"]))

    def set_legality(self, r):
        put(self.volume(r), "legality", r.choice(["legal", "illegal"]))

    def layer(self, r):
        volume = self.volume(r)
        put(volume, "parent",
            r.choice(self.volumes[volume.split("/")[-3]]))

    def look(self, r):
        volume = self.volume(r)
        os.stat(volume)
        for key in ("type", "capacity", "allocated"):
            get(volume, key)

    def rm(self, r):
        os.unlink(self.volume(r))

    def rmdir(self, r):
        os.rmdir(self.image_path(self.image(r)))

    def trash(self, r):
        i = self.image(r)
        os.rename(self.image_path(i), os.path.join(self.d.trash, i))

    def restore(self, r):
        i = self.image(r)
        os.rename(os.path.join(self.d.trash, i), self.image_path(i))

    def purge(self, r):
        os.rmdir(os.path.join(self.d.trash, self.image(r)))

    def list_all(self, r):
        for _ in os.walk(self.d.mnt):
            pass

    def collect(self, r):
        with open(self.d.control("collect"), "w") as f:
            f.write("now")

    def status(self, r):
        self.d.status()

    WEIGHTS = {"mkdir": 8, "touch": 20, "write": 20, "read": 10,
               "truncate": 8, "describe": 8, "describe_image": 4,
               "set_allocation": 3, "set_legality": 2, "layer": 6, "look": 20,
               "rm": 10, "rmdir": 3, "trash": 2, "restore": 4, "purge": 1,
               "list_all": 2, "collect": 1, "status": 1}

    def attempt(self, name, r):
        """Who has looked up a name that is then removed and made again gets
        EIO of the kernel, and at the next try what is there now."""
        state = r.getstate()
        try:
            getattr(self, name)(r)
        except OSError as e:
            if e.errno != errno.EIO:
                raise
            r.setstate(state)
            getattr(self, name)(r)

    def thread(self, n):
        r = random.Random(f"{self.seed}/{n}")
        names, weights = zip(*self.WEIGHTS.items())
        while time.monotonic() < self.end and not self.unexpected:
            name = r.choices(names, weights)[0]
            try:
                self.attempt(name, r)
            except OSError as e:
                if e.errno not in EXPECTED:
                    self.unexpected.append(f"{name}: {e}")
                continue
            with self.lock:
                self.done[name] = self.done.get(name, 0) + 1

    def rage(self):
        threads = [threading.Thread(target=self.thread, args=(n,))
                   for n in range(THREADS)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()


def program(kind):
    """(path, environment) of a build with this sanitizer."""
    if kind == "plain":
        return EXE, {}
    build = os.environ.get(f"OVSTORFS_BUILD_{kind.upper()}")
    exe = build and os.path.join(build, "fs", "ovstorfs")
    if not exe or not os.access(exe, os.X_OK):
        lacking(f"no build with this sanitizer (OVSTORFS_BUILD_"
                f"{kind.upper()}; tests/run makes it)")
    return exe, {
        "ASAN_OPTIONS": "detect_leaks=1:exitcode=77",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=0",
        "TSAN_OPTIONS": "exitcode=77:second_deadlock_stack=1",
    }


@pytest.mark.timeout(SECONDS + 240)
@pytest.mark.parametrize("kind", ["plain", "asan", "tsan"])
def test_storm_leaves_a_clean_domain_and_no_report(workshop, kind):
    if kind == "plain" and QUICK:
        pytest.skip("a quick run storms under the sanitizers only")
    exe, env = program(kind)
    d = workshop.domain(exe=exe, env=env)
    # A thread stands still for long under a sanitizer on a loaded machine.
    d.mount(timeout=60, verb_timeout=60, trash_retention=3, gc_period=1)
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    storm = Storm(d, seed)
    storm.rage()
    assert not storm.unexpected, storm.unexpected
    assert d.is_alive(), "the mount died"
    missed = set(storm.WEIGHTS) - set(storm.done)
    assert not missed, f"never done: {missed}; done: {storm.done}"
    for image in os.listdir(d.trash):
        try:
            os.rmdir(os.path.join(d.trash, image))
        except FileNotFoundError:
            pass # the collector was faster
    d.gc()
    assert d.leftovers() == []
    shown = {v for _, _, names in os.walk(d.images) for v in names}
    d.unmount()
    reports = [line for line in d.read_log().splitlines()
               if re.search(r"(Sanitizer|runtime error):?", line)]
    assert not reports, d.read_log()
    d.check()
    d.mount(timeout=60)
    assert shown == {v for _, _, names in os.walk(d.images) for v in names}
