# SPDX-License-Identifier: GPL-2.0-or-later
"""The collector: what it finishes, what it undoes, and what it leaves."""
import os
from errno import EEXIST, EINVAL, EIO, ENOENT, ESTALE, EUCLEAN

import pytest

from conftest import Events, get, new_uuid, put, refused


def die_at(d, point, act):
    """Mount, and let a verb kill the mount at a fault point."""
    d.mount(faults=[point])
    with pytest.raises(OSError):
        act()
    d.wait_dead()


def to_trash(d, image):
    target = os.path.join(d.trash, os.path.basename(image))
    os.rename(image, target)
    return target


def collect(d):
    with open(d.control("collect"), "w") as f:
        f.write("now")


def flip(path, at=100):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("point", ["marker", "lease", "data", "sync"])
def test_begun_creation_is_undone(domain, point):
    domain.mount()
    image, name = domain.new_image(), new_uuid()
    domain.unmount()
    die_at(domain, f"volume_create.{point}",
           lambda: domain.new_volume(image, name=name))
    assert domain.leftovers()
    domain.mount()
    assert os.listdir(os.path.join(image, "volumes")) == []
    domain.gc()
    assert domain.leftovers() == []
    # The name is free again.
    domain.new_volume(image, name=name)


def test_committed_removal_is_finished(domain):
    domain.mount()
    volume = domain.new_volume()
    with open(volume, "wb") as f:
        f.write(b"x" * 100000)
    domain.unmount()
    die_at(domain, "volume_remove.commit", lambda: os.unlink(volume))
    assert any(n.endswith(".meta.removed") for n in domain.leftovers())
    domain.mount()
    with refused(ENOENT):
        os.stat(volume)
    domain.gc()
    assert domain.leftovers() == []
    assert not os.path.exists(domain.stored(volume))


def test_uncommitted_removal_is_undone(domain):
    domain.mount()
    volume = domain.new_volume(size=4096)
    domain.unmount()
    die_at(domain, "volume_remove.marker", lambda: os.unlink(volume))
    domain.mount()
    domain.gc()
    assert domain.leftovers() == []
    with open(volume, "r+b") as f:
        assert f.read() == bytes(4096)


def test_layer_without_its_record_is_emptied(domain):
    domain.mount()
    base = domain.new_volume(size=1 << 20)
    layer = domain.new_volume(os.path.dirname(os.path.dirname(base)))
    domain.unmount()
    die_at(domain, "volume_snapshot.layer",
           lambda: put(layer, "parent", os.path.basename(base)))
    assert os.stat(domain.stored(layer)).st_size > 0
    domain.mount()
    domain.gc()
    assert os.stat(layer).st_size == 0
    assert (get(layer, "format"), get(base, "type")) == ("raw", "leaf")
    put(layer, "parent", os.path.basename(base))


@pytest.mark.parametrize("point", [
    "dying", "record", "data", "lease", "image_dying", "image_empty"])
def test_collector_that_died_is_followed_by_another(domain, point):
    domain.mount()
    volume = domain.new_volume(size=4096)
    image = os.path.dirname(os.path.dirname(volume))
    domain.unmount()

    def remove():
        os.unlink(volume)
        collect(domain)
        os.rmdir(image)
        collect(domain)
        domain.status()

    die_at(domain, f"gc.{point}", remove)
    domain.mount()
    domain.gc()
    if os.path.exists(image): # it died before the rmdir
        os.rmdir(image)
        domain.gc()
    assert domain.leftovers() == []


def test_trash_expires_by_itself(domain):
    domain.mount(trash_retention=1)
    volume = domain.new_volume(size=4096)
    image = os.path.dirname(os.path.dirname(volume))
    with Events(domain) as events:
        to_trash(domain, image)
        assert events.wait("collected")["object"] == os.path.basename(image)
    assert os.listdir(domain.trash) == []
    assert domain.leftovers() == []
    domain.new_volume(domain.new_image(os.path.basename(image)),
                      name=os.path.basename(volume))


def test_trash_is_kept_for_its_time(domain):
    domain.mount(trash_retention=3600)
    image = domain.new_image()
    trashed = to_trash(domain, image)
    for _ in range(3):
        domain.gc()
        assert os.path.isdir(trashed)
    # The time stands in the marker, and is not this mount's to shorten.
    domain.remount(trash_retention=1)
    domain.gc()
    assert os.path.isdir(trashed)
    with refused(EEXIST):
        os.mkdir(image)


def test_rmdir_in_the_trash_collects_now(domain):
    domain.mount(trash_retention=3600)
    volume = domain.new_volume(size=4096)
    image = os.path.dirname(os.path.dirname(volume))
    other = to_trash(domain, domain.new_image())
    os.rmdir(to_trash(domain, image))
    assert os.listdir(domain.trash) == [os.path.basename(other)]
    assert not os.path.exists(domain.stored(image))
    assert not os.path.exists(domain.stored(image) + ".removed")
    os.mkdir(image)


def test_taking_back_comes_too_late_once_the_collector_began(domain):
    domain.mount(trash_retention=3600, faults=["gc.image_dying:1:EIO"])
    image = domain.new_image()
    trashed = to_trash(domain, image)
    os.rmdir(trashed) # what has begun will be done, so it is gone
    # ESTALE from us, or the kernel has forgotten the name by itself.
    with refused(ESTALE, ENOENT):
        os.rename(trashed, image)
    domain.gc()
    assert domain.leftovers() == []


def test_collect_file_runs_one_round(domain):
    domain.mount()
    image = domain.new_image()
    domain.unmount()
    die_at(domain, "volume_create.data", lambda: domain.new_volume(image))
    domain.mount(gc_period=0) # no round but those that are asked for
    before = domain.status()["collector"]
    for word in ("later", "", "NOW", "now now"):
        if word:
            with refused(EINVAL):
                fd = os.open(domain.control("collect"), os.O_WRONLY)
                try:
                    os.write(fd, word.encode())
                finally:
                    os.close(fd)
    assert domain.status()["collector"]["rounds"] == before["rounds"]
    collect(domain)
    assert domain.leftovers() == []
    after = domain.status()["collector"]
    assert after["rounds"] > before["rounds"]
    assert after["cleaned"] > before["cleaned"]
    with open(domain.control("collect"), "w") as f:
        f.write("now\n") # as echo does


def test_nothing_is_deleted_in_a_damaged_image(domain):
    domain.mount()
    image = domain.new_image()
    hurt, other = domain.new_volume(image), domain.new_volume(image)
    healthy = domain.new_volume()
    domain.unmount()
    die_at(domain, "volume_remove.commit", lambda: os.unlink(other))
    flip(domain.stored(hurt) + ".meta")
    before = sorted(os.listdir(domain.stored(image)))
    domain.mount()
    assert set(os.listdir(os.path.dirname(hurt))) == {os.path.basename(hurt)}
    with refused(EUCLEAN):
        os.open(hurt, os.O_RDONLY)
    assert get(hurt, "error")
    for refuse in (lambda: os.unlink(hurt), lambda: os.rmdir(image),
                   lambda: to_trash(domain, image)):
        with pytest.raises(OSError):
            refuse()
    domain.gc(expect=None)
    assert sorted(os.listdir(domain.stored(image))) == before
    assert domain.status()["objects"]["damaged"] == 1
    # Other images are as free as ever.
    os.unlink(healthy)
    os.rmdir(os.path.dirname(os.path.dirname(healthy)))
    flip(domain.stored(hurt) + ".meta")
    domain.remount()
    domain.gc()
    assert domain.leftovers() == []
    assert os.path.exists(hurt)


def test_check_tells_of_markers(domain):
    domain.mount()
    volume = domain.new_volume()
    domain.unmount()
    domain.check()
    die_at(domain, "volume_set.marker",
           lambda: put(volume, "description", "x"))
    assert os.path.basename(volume) in domain.tool(
        "check", domain.source).stdout
    domain.mount()
    domain.gc()
    domain.unmount()
    assert os.path.basename(volume) not in domain.check()


def test_collections_at_the_same_time_agree(mounted):
    image = mounted.new_image()
    fds = [os.open(mounted.control("collect"), os.O_WRONLY)
           for _ in range(4)]
    for _ in range(10):
        volumes = [mounted.new_volume(image) for _ in range(3)]
        for volume in volumes:
            os.unlink(volume)
        for fd in fds:
            os.pwrite(fd, b"now", 0)
    for fd in fds:
        os.close(fd)
    assert mounted.leftovers() == []


def test_bytes_that_somebody_writes_are_not_undone(domain):
    """A layer that failed half-way left its marker; whoever opens the volume
    then has it undone first, and keeps what he writes."""
    domain.mount(gc_period=0, faults=["volume_snapshot.layer:1:EIO",
                                      "gc.undo:1:EIO"])
    base = domain.new_volume(size=1 << 20)
    volume = domain.new_volume(os.path.dirname(os.path.dirname(base)))
    with refused(EIO):
        put(volume, "parent", os.path.basename(base))
    with open(volume, "r+b") as f:
        f.write(b"x" * (4 << 20))
        os.fsync(f.fileno())
        collect(domain)
        assert os.fstat(f.fileno()).st_size == 4 << 20
    domain.remount()
    domain.gc()
    with open(volume, "rb") as f:
        assert f.read() == b"x" * (4 << 20)


def test_purge_that_failed_is_no_wish_for_later(domain):
    domain.mount(trash_retention=3600, gc_period=0)
    image = domain.new_image()
    trashed = to_trash(domain, image)
    # Its third state cannot be entered: the name is taken by something else.
    planted = os.path.join(domain.source, "images",
                           os.path.basename(image) + ".dying")
    with open(planted, "w"):
        pass
    with pytest.raises(OSError):
        os.rmdir(trashed)
    os.unlink(planted)
    os.rename(trashed, image)
    to_trash(domain, image)
    collect(domain)
    assert os.path.isdir(trashed)
