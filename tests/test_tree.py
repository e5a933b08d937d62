# SPDX-License-Identifier: GPL-2.0-or-later
"""The tree: what mkdir, touch, rm, mv and ls do, and what they refuse."""
import ctypes
import os
import shutil
import stat
import time
from errno import (EACCES, EBUSY, EEXIST, EINVAL, EISDIR, ENAMETOOLONG, ENOENT,
                   ENOTDIR, ENOTEMPTY, EPERM, EROFS)

import pytest

from conftest import get, libc, new_uuid, put, refused, run

UUID = "0123abcd-4567-89ab-cdef-0123456789ab"
BAD_NAMES = [
    "x", UUID.upper(), UUID[:-1], UUID + "0", UUID.replace("-", "_"),
    UUID.replace("-", ""), "{" + UUID + "}", "g" + UUID[1:], UUID + ".meta",
    UUID + ".new", UUID + ".removed", UUID + "\n", " " + UUID[1:], "lost+found",
    "\udcff" + UUID[1:], "00000000-0000-0000-0000-000000000000", "image",
]


def as_nobody(call, *args):
    """The errno of a system call that another user makes; 0: none."""
    pid = os.fork()
    if pid == 0:
        code = 250
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            call(*args)
            code = 0
        except OSError as e:
            code = e.errno
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def chain(d, layers):
    """A chain, base first."""
    volumes = [d.new_volume(size=1 << 20)]
    while len(volumes) < layers:
        volumes.append(d.new_layer(volumes[-1]))
    return volumes


def test_empty_domain_shows_its_places(mounted):
    assert {"images", "trash", ".ovstorfs"} <= set(os.listdir(mounted.mnt))
    assert os.listdir(mounted.images) == []
    assert os.listdir(mounted.trash) == []


def test_made_image_has_an_empty_place_for_volumes(mounted):
    image = mounted.new_image()
    assert os.listdir(mounted.images) == [os.path.basename(image)]
    assert os.listdir(image) == ["volumes"]
    assert os.listdir(os.path.join(image, "volumes")) == []


def test_touched_volume_is_raw_sparse_empty_and_legal(mounted):
    volume = mounted.new_volume()
    st = os.stat(volume)
    assert stat.S_ISREG(st.st_mode) and stat.S_IMODE(st.st_mode) == 0o660
    assert (st.st_size, st.st_blocks, st.st_uid, st.st_gid) == (0, 0, 0, 0)
    assert [get(volume, k) for k in ("format", "allocation", "type",
                                     "legality")] == \
        ["raw", "sparse", "leaf", "legal"]


def test_mknod_makes_a_volume_and_nothing_else(mounted):
    volumes = os.path.join(mounted.new_image(), "volumes")
    os.mknod(os.path.join(volumes, UUID), stat.S_IFREG | 0o600)
    assert os.listdir(volumes) == [UUID]
    for kind in (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK):
        with refused(EPERM):
            os.mknod(os.path.join(volumes, new_uuid()), kind | 0o600)
    assert os.listdir(volumes) == [UUID]


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_name_that_is_no_lower_case_uuid_is_refused(mounted, name):
    volumes = os.path.join(mounted.new_image(), "volumes")
    before = os.listdir(mounted.images)
    with refused(EINVAL):
        os.mkdir(os.path.join(mounted.images, name))
    with refused(EINVAL):
        os.open(os.path.join(volumes, name), os.O_CREAT | os.O_WRONLY)
    with refused(EINVAL):
        os.mknod(os.path.join(volumes, name))
    with refused(ENOENT):
        os.stat(os.path.join(volumes, name))
    assert os.listdir(mounted.images) == before
    assert os.listdir(volumes) == []


def test_over_long_name_is_refused(mounted):
    for length in (255, 256, 1024, 1025, 4000):
        with refused(ENAMETOOLONG, EINVAL):
            os.mkdir(os.path.join(mounted.images, "a" * length))
        with refused(ENAMETOOLONG, ENOENT):
            os.stat(os.path.join(mounted.images, "a" * length))


def test_nothing_else_can_be_made(mounted):
    d = mounted
    image = d.new_image()
    volume = d.new_volume(image)
    places = [d.mnt, d.trash, d.control(""), image]
    for place in places:
        at = os.path.join(place, new_uuid())
        with refused(EPERM):
            os.mkdir(at)
        with refused(EPERM, EACCES):
            os.open(at, os.O_CREAT | os.O_WRONLY)
    for place in places + [d.images, os.path.join(image, "volumes")]:
        at = os.path.join(place, new_uuid())
        with refused(EPERM):
            os.symlink("/etc/passwd", at)
        with refused(EPERM):
            os.link(volume, at)
        with refused(EPERM):
            os.mkfifo(at)
    with refused(EPERM):
        os.mkdir(os.path.join(image, "volumes", new_uuid()))
    with refused(EPERM):
        os.open(os.path.join(d.images, new_uuid()), os.O_CREAT | os.O_WRONLY)
    for place in (d.images, d.trash, d.control("")):
        with refused(EPERM, ENOTEMPTY, EBUSY):
            os.rmdir(place)
    with refused(EPERM):
        os.unlink(d.control("status"))


def test_other_renames_are_refused(mounted):
    d = mounted
    image, volume = d.new_image(), d.new_volume()
    other = os.path.join(d.images, new_uuid())
    for source, target in [
            (image, other),
            (image, os.path.join(d.trash, new_uuid())),
            (image, os.path.join(d.mnt, os.path.basename(image))),
            (volume, os.path.join(os.path.dirname(volume), new_uuid())),
            (volume, os.path.join(image, "volumes", os.path.basename(volume))),
            (volume, os.path.join(d.trash, os.path.basename(volume))),
            (d.images, os.path.join(d.mnt, new_uuid())),
            (d.control("status"), d.control("metrics"))]:
        with refused(EPERM):
            os.rename(source, target)
    assert os.path.exists(image) and os.path.exists(volume)
    assert not os.path.exists(other)


def test_exchange_is_refused(mounted):
    a, b = mounted.new_volume(size=4096), mounted.new_volume(size=8192)
    assert libc.renameat2(-100, a.encode(), -100, b.encode(), 2) == -1
    assert ctypes.get_errno() in (EPERM, EINVAL)
    assert (os.stat(a).st_size, os.stat(b).st_size) == (4096, 8192)


def test_uuid_exists_once_in_the_domain(mounted):
    d = mounted
    first, second = d.new_image(), d.new_image()
    volume = d.new_volume(first)
    taken = os.path.basename(volume)
    for place in (first, second):
        with refused(EEXIST):
            d.new_volume(place, name=taken)
        with refused(EEXIST):
            os.mknod(os.path.join(place, "volumes", taken))
    with refused(EEXIST):
        os.mkdir(first)
    with refused(ENOENT):
        os.stat(os.path.join(second, "volumes", taken))
    os.rename(first, os.path.join(d.trash, os.path.basename(first)))
    with refused(EEXIST):
        d.new_volume(second, name=taken)
    with refused(EEXIST):
        os.mkdir(first)


def test_volume_in_use_cannot_be_removed(mounted):
    volume = mounted.new_volume(size=4096)
    image = os.path.dirname(os.path.dirname(volume))
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
        fd = os.open(volume, flags)
        with refused(EBUSY):
            os.unlink(volume)
        with refused(EBUSY):
            os.rename(image, os.path.join(mounted.trash,
                                          os.path.basename(image)))
        os.close(fd)
    os.unlink(volume)
    assert not os.path.exists(volume)


def test_parent_is_read_only_and_stays(mounted):
    base, middle, leaf = chain(mounted, 3)
    assert [get(v, "type") for v in (base, middle, leaf)] == \
        ["base", "internal", "leaf"]
    for parent in (base, middle):
        with refused(ENOTEMPTY):
            os.unlink(parent)
        for size in (0, 1 << 30):
            with refused(EROFS):
                os.truncate(parent, size)
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC):
            with refused(EROFS):
                os.open(parent, flags)
        with open(parent, "rb") as f:
            assert f.read(1)
    os.unlink(leaf)
    assert get(middle, "type") == "leaf"
    with open(middle, "r+b"):
        pass


def test_refusal_says_why(mounted):
    base, _ = chain(mounted, 2)
    with refused(ENOTEMPTY):
        os.unlink(base)
    assert "layered" in get(base, "error")
    # Once in the log, with the object and the errno.
    lines = [line for line in mounted.read_log().splitlines()
             if os.path.basename(base) in line and "layered" in line]
    assert len(lines) == 1 and "ENOTEMPTY" in lines[0]
    explained = mounted.tool("explain", base, check=0).stdout
    assert "layered" in explained


def test_image_with_volumes_cannot_be_rmdired(mounted):
    volume = mounted.new_volume()
    volumes = os.path.dirname(volume)
    for place in (volumes, os.path.dirname(volumes)):
        with refused(ENOTEMPTY):
            os.rmdir(place)
    os.unlink(volume)
    os.rmdir(volumes)
    # It comes with its image, so nothing has changed.
    assert os.listdir(os.path.dirname(volumes)) in (["volumes"], [])
    os.rmdir(os.path.dirname(volumes))
    assert os.listdir(mounted.images) == []


def test_removed_object_is_gone(mounted):
    volume = mounted.new_volume()
    volumes = os.path.dirname(volume)
    os.unlink(volume)
    assert os.listdir(volumes) == []
    for call in (os.stat, os.unlink, lambda p: os.open(p, os.O_RDONLY),
                 lambda p: os.truncate(p, 1)):
        with refused(ENOENT):
            call(volume)
    with refused(ENOENT):
        os.rmdir(os.path.join(mounted.images, new_uuid()))
    with refused(ENOTDIR):
        os.rmdir(mounted.new_volume())
    with refused(EISDIR, EPERM):
        os.unlink(mounted.new_image())


def test_chain_is_listed_leaf_first(mounted):
    volumes = chain(mounted, 5)
    lone = mounted.new_volume(os.path.dirname(os.path.dirname(volumes[0])))
    listed = os.listdir(os.path.dirname(volumes[0]))
    order = [listed.index(os.path.basename(v)) for v in volumes]
    assert order == sorted(order, reverse=True)
    assert sorted(listed) == sorted(os.path.basename(v)
                                    for v in volumes + [lone])


def test_rm_r_removes_a_chain(mounted):
    volumes = chain(mounted, 6)
    image = os.path.dirname(os.path.dirname(volumes[0]))
    p = run("rm", "-r", image)
    assert (p.returncode, p.stdout) == (0, "")
    assert os.listdir(mounted.images) == []


def test_rm_r_removes_more_than_one_listing_holds(mounted):
    image = mounted.new_image()
    volumes = [mounted.new_volume(image) for _ in range(300)]
    assert len(set(os.listdir(os.path.dirname(volumes[0])))) == 300
    shutil.rmtree(image)
    assert os.listdir(mounted.images) == []
    mounted.gc()
    assert mounted.leftovers() == []


def test_listing_survives_removal_of_what_it_has_shown(mounted):
    """Cookies are no positions: nothing is shown twice or left out."""
    image = mounted.new_image()
    volumes = {mounted.new_volume(image) for _ in range(200)}
    seen = []
    with os.scandir(os.path.join(image, "volumes")) as entries:
        for i, entry in enumerate(entries):
            seen.append(entry.path)
            if i % 2:
                os.unlink(entry.path)
    assert len(seen) == len(set(seen)) and set(seen) == volumes


def test_removed_uuid_can_be_made_again_at_once(mounted):
    image = mounted.new_image()
    path = mounted.new_volume(image)
    for i in range(30):
        with open(path, "wb") as f:
            f.write(b"old bytes" * 1000)
        os.unlink(path)
        mounted.new_volume(image, name=os.path.basename(path), size=9000)
        with open(path, "rb") as f:
            assert f.read() == bytes(9000), f"round {i}"
    os.unlink(path)
    for _ in range(20):
        os.rmdir(image)
        os.mkdir(image)


def test_trashed_image_shows_when_it_expires(domain):
    d = domain.mount(trash_retention=1234)
    volume = d.new_volume(size=8192)
    image = os.path.dirname(os.path.dirname(volume))
    trashed = os.path.join(d.trash, os.path.basename(image))
    # As mv does it, with RENAME_NOREPLACE first.
    run("mv", image, d.trash, check=0)
    assert os.listdir(d.images) == []
    assert os.listdir(d.trash) == [os.path.basename(image)]
    assert set(os.listdir(trashed)) == {"deleted", "expires"}
    times = []
    for name in ("deleted", "expires"):
        with open(os.path.join(trashed, name)) as f:
            times.append(time.strptime(f.read().strip(),
                                       "%Y-%m-%dT%H:%M:%SZ"))
    deleted, expires = [time.mktime(t) for t in times]
    assert expires - deleted == 1234
    for name in ("deleted", "expires", new_uuid()):
        with refused(EPERM, EACCES):
            os.open(os.path.join(trashed, name), os.O_WRONLY | os.O_CREAT)
    with refused(EPERM):
        os.rename(trashed, os.path.join(d.images, new_uuid()))


def test_undeleted_image_is_as_it_was(mounted):
    base, leaf = chain(mounted, 2)
    image = os.path.dirname(os.path.dirname(base))
    put(image, "description", "kept")
    before = [(os.stat(p).st_ino, os.stat(p).st_size)
              for p in (image, base, leaf)]
    trashed = os.path.join(mounted.trash, os.path.basename(image))
    for _ in range(3):
        os.rename(image, trashed)
        with refused(ENOENT):
            os.stat(leaf)
        os.rename(trashed, image)
        assert os.listdir(mounted.trash) == []
    assert get(image, "description") == "kept"
    assert get(leaf, "parent") == os.path.basename(base)
    assert before == [(os.stat(p).st_ino, os.stat(p).st_size)
                      for p in (image, base, leaf)]
    with open(leaf, "r+b"):
        pass


def test_inode_numbers_and_contents_survive_a_remount(mounted):
    base, leaf = chain(mounted, 2)
    with open(mounted.new_volume(), "wb") as f:
        f.write(b"payload")

    def walk():
        found = {}
        for top, dirs, files in os.walk(mounted.mnt):
            for name in dirs + files:
                st = os.lstat(os.path.join(top, name))
                inside = os.path.relpath(os.path.join(top, name), mounted.mnt)
                control = inside.startswith(".ovstorfs")
                found[inside] = (st.st_ino, st.st_mode,
                                 0 if control else st.st_size)
        return found

    before = walk()
    mounted.remount()
    assert walk() == before
    numbers = [v[0] for v in before.values()]
    assert len(numbers) == len(set(numbers)), "an inode number twice"


def test_df_shows_the_space_of_the_storage(mounted):
    ours, below = os.statvfs(mounted.mnt), os.statvfs(mounted.source)
    total = below.f_blocks * below.f_frsize
    free = below.f_bavail * below.f_frsize
    assert ours.f_blocks * ours.f_frsize == total
    assert abs(ours.f_bavail * ours.f_frsize - free) < total / 10
    assert ours.f_namemax >= 36


def test_chown_and_chmod_last_as_long_as_the_mount(mounted):
    volume = mounted.new_volume()
    os.chown(volume, 1234, 4321)
    os.chmod(volume, 0o640)
    os.utime(volume, (1000, 2000))
    st = os.stat(volume)
    assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode),
            st.st_mtime) == (1234, 4321, 0o640, 2000)
    mounted.remount(uid=77, gid=78, mode="0600")
    st = os.stat(volume)
    assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (77, 78, 0o600)


def test_chown_grants_bytes_and_nothing_else(mounted):
    os.chmod(mounted.base, 0o755)
    os.chmod(os.path.dirname(mounted.base), 0o755)
    volume = mounted.new_volume(size=4096)
    image = os.path.dirname(os.path.dirname(volume))
    for path in (volume, os.path.dirname(volume), image, mounted.images,
                 mounted.trash):
        os.chown(path, 65534, 65534)
        os.chmod(path, 0o700)
    trashed = os.path.join(mounted.trash, os.path.basename(image))
    assert as_nobody(lambda: open(volume, "r+b").write(b"x")) == 0
    assert as_nobody(put, volume, "description", "x") in (EPERM, EACCES)
    assert as_nobody(os.unlink, volume) in (EPERM, EACCES)
    assert as_nobody(os.rename, image, trashed) in (EPERM, EACCES)
    assert os.path.exists(volume)
