# SPDX-License-Identifier: GPL-2.0-or-later
"""Every verb x every fault point x {kill, error}.

A scene is a domain in which each verb has an object of its own to work on,
and some leftovers of earlier crashes for the collector. It is set once, and
copied for each run. A run mounts it with one fault armed, does all verbs, and
mounts it again without: then each verb has happened or has not, whatever had
been answered as done is done, and after one collection nothing is left over.
A point is armed at its first passing, its second, and so on until the session
passes it no more; it must have been passed at least once."""
import os
import shutil
from errno import EIO, ENOSPC, EUCLEAN

import pytest

from conftest import (EXE, LONG, Domain, MountFailed, Workshop, get, new_uuid,
                      put, run)

MIB = 1 << 20
UNREADABLE = "unreadable"
# Which passings are tried; the rest is for long runs.
PASSINGS = range(1, 1000) if LONG else [1, 2, 3, 4, 6, 9, 13, 19, 28, 41, 60]


def fault_points():
    if not os.access(EXE, os.X_OK):
        return []
    return run(EXE, "--fault-points", check=0).stdout.split()


def all_below(path):
    """What there is, the directories first."""
    return {os.path.relpath(os.path.join(top, name), path)
            for top, dirs, files in os.walk(path) for name in dirs + files}


class Scene:
    """Names are the same in all copies."""

    def __init__(self):
        names = ("new", "work", "empty", "doomed", "lost", "purged", "chain",
                 "told")
        self.image = {n: new_uuid() for n in names}
        names = ("new", "up", "down", "open", "full", "told", "format",
                 "write", "gone", "base", "layer", "inside", "back", "stale",
                 "staler")
        self.volume = {n: new_uuid() for n in names}

    def at(self, d, name):
        return os.path.join(d.images, self.image[name])

    def in_trash(self, d, name):
        return os.path.join(d.trash, self.image[name])

    def vol(self, d, name, image="work"):
        return os.path.join(self.at(d, image), "volumes", self.volume[name])

    def set_up(self, d):
        """On a mounted domain; unmounts it."""
        for name in self.image:
            if name != "new":
                os.mkdir(self.at(d, name))
        work = self.at(d, "work")
        for name in ("up", "down", "open", "full", "told", "format", "write",
                     "gone", "stale", "staler"):
            d.new_volume(work, name=self.volume[name])
        for name in ("down", "gone", "write"):
            with open(self.vol(d, name), "wb") as f:
                f.write(b"\x77" * 65536)
        put(self.vol(d, "full"), "allocation", "preallocated")
        d.new_volume(self.at(d, "chain"), name=self.volume["base"], size=MIB)
        d.new_volume(self.at(d, "chain"), name=self.volume["layer"])
        d.new_volume(self.at(d, "doomed"), name=self.volume["inside"])
        d.new_volume(self.at(d, "lost"), name=self.volume["back"])
        for name in ("lost", "purged"):
            os.rename(self.at(d, name), self.in_trash(d, name))
        d.unmount()
        self.leave_markers(d)

    def leave_markers(self, d):
        """What hosts left that died at work, one of each kind. They are kept
        aside until all are there, since the next mount collects them."""
        images = os.path.join(d.source, "images")
        aside = os.path.join(d.base, "aside")
        image = os.path.join(d.images, new_uuid())
        for point, act in [
                ("volume_set.marker", lambda: put(
                    self.vol(d, "stale"), "description", "never")),
                ("image_set.marker", lambda: put(
                    self.at(d, "told"), "description", "never")),
                ("volume_create.data", lambda: d.new_volume(
                    self.at(d, "work"))),
                ("image_create.marker", lambda: os.mkdir(image)),
                ("volume_remove.marker", lambda: os.unlink(
                    self.vol(d, "staler"))),
                ("image_remove.marker", lambda: os.rmdir(
                    self.at(d, "empty")))]:
            d.mount(faults=[point])
            d.gc()
            before = all_below(images)
            with pytest.raises(OSError):
                act()
            d.wait_dead()
            for name in sorted(all_below(images) - before):
                os.makedirs(os.path.dirname(os.path.join(aside, name)),
                            exist_ok=True)
                if os.path.exists(os.path.join(images, name)):
                    os.rename(os.path.join(images, name),
                              os.path.join(aside, name))
        assert len(all_below(aside)) >= 8
        run("cp", "-a", "--sparse=always", aside + "/.", images, check=0)

    # ---- verbs: what is done, and how it shows ----

    def verbs(self):
        """name: (act, look); what look answers is one thing before the verb
        and another one after it."""
        def size(name):
            return lambda d: os.stat(self.vol(d, name)).st_size

        def attribute(name, key):
            return lambda d: read(self.vol(d, name), key)

        def here(path):
            return lambda d: os.path.lexists(path(d))

        def put_it(name, key, value):
            return lambda d: put(self.vol(d, name), key, value)

        def trunc(name, to):
            return lambda d: os.truncate(self.vol(d, name), to)

        return {
            "mkdir": (lambda d: os.mkdir(self.at(d, "new")),
                      here(lambda d: self.at(d, "new"))),
            "touch": (lambda d: d.new_volume(self.at(d, "work"),
                                             name=self.volume["new"]),
                      here(lambda d: self.vol(d, "new"))),
            "grow": (trunc("up", 100 * MIB), size("up")),
            "shrink": (trunc("down", 1000), size("down")),
            "preallocate": (trunc("full", 2 * MIB), size("full")),
            "describe": (put_it("told", "description", "words"),
                         attribute("told", "description")),
            "set format": (put_it("format", "format", "qcow2"),
                           attribute("format", "format")),
            "describe image": (
                lambda d: put(self.at(d, "told"), "description", "words"),
                lambda d: read(self.at(d, "told"), "description")),
            # By way of images/: a mount point without a mount has none.
            "set warn_free": (
                lambda d: put(d.images + "/..", "warn_free", "33%"),
                lambda d: read(d.mnt, "warn_free")),
            "write": (self.write, self.written),
            "grow open": (self.grow_open, size("open")),
            "layer": (self.layer, self.layered),
            "rm": (lambda d: os.unlink(self.vol(d, "gone")),
                   here(lambda d: self.vol(d, "gone"))),
            "rmdir": (lambda d: os.rmdir(self.at(d, "empty")),
                      here(lambda d: self.at(d, "empty"))),
            "trash": (lambda d: os.rename(self.at(d, "doomed"),
                                          self.in_trash(d, "doomed")),
                      self.where("doomed", "inside")),
            "restore": (lambda d: os.rename(self.in_trash(d, "lost"),
                                            self.at(d, "lost")),
                        self.where("lost", "back")),
            "purge": (lambda d: os.rmdir(self.in_trash(d, "purged")),
                      here(lambda d: self.in_trash(d, "purged"))),
        }

    def write(self, d):
        with open(self.vol(d, "write"), "r+b", buffering=0) as f:
            if f.write(b"\x88" * 131072) < 131072:
                raise OSError(ENOSPC, "a short write")
            os.fsync(f.fileno())

    def written(self, d):
        with open(self.vol(d, "write"), "rb") as f:
            return f.read() == b"\x88" * 131072

    def grow_open(self, d):
        with open(self.vol(d, "open"), "r+b") as f:
            f.truncate(5 * MIB)

    def layer(self, d):
        put(self.vol(d, "layer", "chain"), "parent", self.volume["base"])

    def layered(self, d):
        layer = self.vol(d, "layer", "chain")
        base = self.vol(d, "base", "chain")
        return (read(layer, "parent"), read(layer, "format"),
                os.stat(layer).st_size > 0, read(base, "type"))

    def where(self, image, volume):
        return lambda d: (os.path.exists(self.vol(d, volume, image)),
                          os.path.exists(self.in_trash(d, image)))


def read(path, key):
    """None where there is no value."""
    return get(path, key) if "user.ovstorfs." + key in os.listxattr(path) \
        else None


class Stage:
    """The scene as it was set, and what each verb makes of it."""

    def __init__(self, shop):
        self.shop = shop
        self.scene = Scene()
        self.model = shop.domain().mount(trash_retention=100000)
        self.scene.set_up(self.model)
        self.verbs = self.scene.verbs()
        d = self.copy(os.path.join(shop.base, "played"))
        d.mount()
        d.gc()
        self.old = self.look(d)
        done, failed = self.play(d)
        assert not failed and done == list(self.verbs), failed
        d.gc()
        self.new = self.look(d)
        d.close()
        for name in self.verbs:
            assert self.old[name] != self.new[name], name

    def copy(self, base):
        os.makedirs(base)
        d = Domain(base)
        self.shop.domains.append(d)
        self.put_copy(d.source)
        return d

    def put_copy(self, target):
        run("cp", "-a", "--sparse=always", self.model.source + "/.", target,
            check=0)

    def look(self, d, live=False):
        """live: who looks may be the one who meets the error."""
        seen = {}
        for name, (_, look) in self.verbs.items():
            try:
                seen[name] = look(d)
            except OSError as e:
                if not live or e.errno not in (EIO, EUCLEAN):
                    raise
                seen[name] = UNREADABLE
        return seen

    def play(self, d):
        """The names of the verbs that were answered as done, and of those
        that were refused. Ends when the mount dies."""
        done, failed = [], {}
        for name, (act, _) in self.verbs.items():
            try:
                act(d)
                done.append(name)
            except OSError as e:
                failed[name] = e
            if not d.is_alive():
                break
        try:
            with open(d.control("collect"), "w") as f:
                f.write("now")
        except OSError:
            pass
        return done, failed

    def judge(self, d, done, failed, where, live=False):
        """Each verb has happened or has not."""
        now = self.look(d, live)
        for name in self.verbs:
            if now[name] == UNREADABLE:
                continue
            allowed = {self.new[name]} if name in done else {self.old[name]}
            if name in failed:
                allowed = {self.old[name], self.new[name]}
            if name == "write" and name in failed:
                continue # bytes without an fsync promise nothing
            assert now[name] in allowed, \
                f"{where}: {name}: {now[name]}; done {done}, failed {failed}"
        return now

    def clean_up(self, d, where):
        """One collection, and nothing is left but the domain."""
        d.gc()
        for image in os.listdir(d.trash):
            os.rmdir(os.path.join(d.trash, image))
        assert d.leftovers() == [], where
        d.check()
        d.unmount()
        d.check()


@pytest.fixture(scope="module")
def stage():
    shop = Workshop()
    try:
        yield Stage(shop)
    finally:
        shop.close()
        shutil.rmtree(shop.base, ignore_errors=True)


def one_run(stage, d, spec):
    """Did the fault act? The log of the mount tells."""
    done, failed = [], {}
    try:
        d.mount(faults=[spec])
    except MountFailed as e:
        acted = "acts" in e.text
    else:
        done, failed = stage.play(d)
        if d.is_alive() and ":kill" not in spec:
            d.gc(expect=None)
            live = stage.judge(d, done, failed, f"{spec}, live", True)
        d.tool("unmount", d.mnt)
        d.wait_dead()
        acted = f"fault point {spec.split(':')[0]} acts" in d.read_log()
    d.mount()
    d.gc()
    now = stage.judge(d, done, failed, spec)
    if ":kill" not in spec and done:
        shown = {n: v for n, v in live.items() if v != UNREADABLE}
        assert shown == {n: now[n] for n in shown}, \
            f"{spec}: the dead mount had shown otherwise"
    stage.clean_up(d, spec)
    return acted


@pytest.mark.timeout(600)
@pytest.mark.parametrize("action", ["kill", "EIO"])
@pytest.mark.parametrize("point", fault_points())
def test_verb_happens_or_not(stage, workshop, point, action):
    for n in PASSINGS:
        d = stage.copy(os.path.join(workshop.base, f"{n}"))
        workshop.domains.append(d)
        acted = one_run(stage, d, f"{point}:{n}:{action}")
        shutil.rmtree(d.base, ignore_errors=True)
        stage.shop.domains.remove(d)
        if not acted:
            break
    assert n > 1, f"no verb of the session passes {point}"


def test_points_are_listed_once_and_sorted():
    points = fault_points()
    assert len(points) > 20 and points == sorted(set(points))
    assert all(p.count(".") == 1 for p in points)
