# SPDX-License-Identifier: GPL-2.0-or-later
"""Create and delete volumes, against the same file operations done bare."""
import os
import time

import kit


def collected(d, count):
    """Until the collector has had that many volumes."""
    while d.status()["collector"]["cleaned"] < count:
        time.sleep(0.002)


class Measure:
    def __init__(self, bench):
        self.count = 20 if bench.quick else 50
        self.helper = bench.compile(os.path.join(kit.HERE, "bare.c"))
        self.domain = bench.domain("create", exe=kit.conftest.EXE).mount()
        self.volumes = os.path.join(self.domain.new_image(), "volumes")
        # Beside the mounted one on the same file system, so that each has a
        # ring and an image's directory of its own.
        self.bare = bench.domain("bare")
        self.bare_image = bench.dir("bare", "storage", "images", "bare")
        self.made = 0
        self.parts = {"mount": [], "bare": []}

    def helper_run(self, kind, *argv):
        start = time.monotonic()
        parts = kit.run(self.helper, *argv, self.count).split()
        self.parts[kind].append([float(p) / 1000 for p in parts])
        return start

    def on_mount(self):
        start = self.helper_run("mount", "mount", self.volumes)
        self.made += self.count
        collected(self.domain, self.made)
        return (time.monotonic() - start) / self.count * 1000

    def on_files(self):
        start = self.helper_run("bare", "files", self.bare.source,
                                self.bare_image)
        return (time.monotonic() - start) / self.count * 1000

    def caller(self, kind):
        """What a caller waits for: all but the collection."""
        return [c + d for c, d, _ in self.parts[kind]]


def bench(b):
    m = Measure(b)
    kit.say(f"create and delete a volume, {m.count} in a row in one image")
    m.on_mount()
    m.on_files()
    m.parts = {"mount": [], "bare": []}
    v = b.by_turns(mount=m.on_mount, bare=m.on_files)
    kit.show("mount, until collected", v["mount"], "{:.2f}", "ms a volume")
    kit.show("bare", v["bare"], "{:.2f}", "ms a volume")
    for i, what in enumerate(("create and close", "rm")):
        for kind in ("mount", "bare"):
            kit.show(f"{kind}: {what}", [p[i] for p in m.parts[kind]],
                     "{:.2f}", "ms")
    # While the caller goes on, the collector is at work behind it, and takes
    # its share of the disk; only the whole is the same work on both sides.
    b.compare("create + rm + collection", v["mount"], v["bare"], under=1.5)
    b.compare("create + rm, as the caller sees it", m.caller("mount"),
              m.caller("bare"))
    m.domain.unmount()
