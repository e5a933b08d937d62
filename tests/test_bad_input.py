# SPDX-License-Identifier: GPL-2.0-or-later
"""A domain as an enemy, a dying disk or another age may have written it: a
clear error each, no other object harmed, and check points at it."""
import os
import shutil
from errno import ECONNABORTED, ENOSPC, ENOTCONN, EROFS, ETIMEDOUT, EUCLEAN

import pytest

from conftest import (Domain, MountFailed, detach, get, new_uuid, put, refused,
                      run)
from test_attributes import crc32c
from test_crash import stage # noqa: F401 (a fixture)

BLOCK = 4096


@pytest.fixture
def victim(domain):
    """A domain at rest with an image of two volumes: path names in it."""
    domain.mount()
    image = domain.new_image()
    domain.hurt = domain.new_volume(image, size=8192, description="words")
    domain.other = domain.new_volume(image, size=8192)
    domain.image = image
    domain.unmount()
    return domain


def flip(path, at, bit):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)
        assert byte, f"{path} is shorter than {at}"
        f.seek(at)
        f.write(bytes([byte[0] ^ 1 << bit]))


def check_code(d, *options):
    """What check says; it never dies of it."""
    p = d.tool("check", *options, d.source)
    assert p.returncode in (0, 1, 4, 8), p.stdout
    return p


def flipped(d, path, places, wanted, names=()):
    """Flip one bit at each place in turn; check answers what is wanted and
    names the object."""
    for at in places:
        bit = (at * 5 + 3) % 8
        flip(path, at, bit)
        p = check_code(d)
        assert p.returncode in wanted, \
            f"byte {at} bit {bit}: exit {p.returncode}\n{p.stdout}"
        for name in names if p.returncode else ():
            assert name in p.stdout, f"byte {at} bit {bit}: {p.stdout}"
        flip(path, at, bit)
    d.check()


def record_length(path, offset=0):
    with open(path, "rb") as f:
        f.seek(offset)
        return len(f.read(BLOCK).rstrip(b"\0"))


def stored_area(d, name):
    return os.path.join(d.source, "ovstorfs", name)


# ---- flipped bits ----

def test_flipped_bit_in_the_domain_record_is_found(victim):
    path = stored_area(victim, "domain")
    for copy in (0, BLOCK):
        length = record_length(path, copy)
        flipped(victim, path, range(copy, copy + length), (4,), ["domain"])
        flipped(victim, path, range(copy + length, copy + BLOCK, 499), (0, 4))


def test_one_good_copy_of_the_domain_record_is_enough(victim):
    path = stored_area(victim, "domain")
    for copy in (0, BLOCK):
        flip(path, copy + 60, 2)
        victim.mount()
        with open(victim.hurt, "rb") as f:
            assert f.read() == bytes(8192)
        put(victim.mnt, "warn_free", f"{20 + copy // BLOCK}%")
        victim.unmount()
        check_code(victim, "--repair")
        victim.check()


def test_domain_record_damaged_twice_is_refused(victim):
    path = stored_area(victim, "domain")
    flip(path, 60, 2)
    flip(path, BLOCK + 60, 2)
    with pytest.raises(MountFailed) as e:
        victim.mount()
    assert e.value.code == 32 and "damaged" in e.value.text
    assert check_code(victim).returncode in (4, 8)


@pytest.mark.parametrize("which", ["volume", "image"])
def test_flipped_bit_in_a_record_is_found(victim, which):
    path = victim.stored(victim.hurt) + ".meta" if which == "volume" else \
        os.path.join(victim.stored(victim.image), "image")
    name = victim.hurt if which == "volume" else victim.image
    flipped(victim, path, range(os.path.getsize(path)), (4,),
            [os.path.basename(name)])


def test_damaged_volume_is_listed_and_kept(victim):
    path = victim.stored(victim.hurt) + ".meta"
    for at in range(0, os.path.getsize(path), 37):
        flip(path, at, 4)
        victim.mount()
        assert sorted(os.listdir(os.path.dirname(victim.hurt))) == \
            sorted(map(os.path.basename, (victim.hurt, victim.other)))
        for flags in (os.O_RDONLY, os.O_RDWR):
            with refused(EUCLEAN):
                os.open(victim.hurt, flags)
        assert get(victim.hurt, "error")
        with refused(EUCLEAN):
            put(victim.hurt, "description", "x")
        with refused(EUCLEAN):
            os.truncate(victim.hurt, 0)
        for path_of in (victim.hurt, victim.other):
            with refused(EUCLEAN):
                os.unlink(path_of)
        with refused(EUCLEAN):
            os.rename(victim.image, os.path.join(
                victim.trash, os.path.basename(victim.image)))
        with open(victim.other, "r+b") as f:
            f.write(b"usable")
        victim.gc(expect=None)
        victim.unmount()
        flip(path, at, 4)
        victim.check()


def test_damaged_change_ring_is_read_over(victim):
    path = stored_area(victim, "changes")
    heads = [h + b for h in (0, BLOCK) for b in range(64)]
    flipped(victim, path, heads, (4,))
    flipped(victim, path, range(64, BLOCK, 511), (0, 4))
    flipped(victim, path, range(2 * BLOCK, 1 << 20, 65521), (0, 4))
    for at in (3, 9, 13, 20, 30, 40, 61, BLOCK + 20, 2 * BLOCK + 70):
        flip(path, at, 1)
        try:
            victim.mount()
        except MountFailed as e: # a version that is not known
            assert at in (9,) and "newer" in e.text
            flip(path, at, 1)
            continue
        put(victim.hurt, "description", f"flipped {at}")
        victim.new_volume(victim.image)
        victim.gc()
        victim.unmount()
        check_code(victim, "--repair")
        victim.check()


def test_damaged_mailbox_harms_nobody(victim):
    path = stored_area(victim, "mailbox")
    size = os.path.getsize(path)
    flipped(victim, path, list(range(0, 64)) + [BLOCK, 100 * BLOCK + 5,
                                                size - 1], (0, 4))
    flip(path, BLOCK + 8, 3)
    victim.mount()
    victim.new_volume(victim.image)
    victim.unmount()


@pytest.mark.parametrize("area", ["volume", "ids", "leases"])
def test_flipped_bit_in_a_lease_is_found(victim, area):
    path = victim.stored(victim.hurt) + ".lease" if area == "volume" else \
        stored_area(victim, area)
    # Sanlock's leader record ends with its sum at byte 168.
    flipped(victim, path, range(172), (4,),
            [os.path.basename(victim.hurt)] if area == "volume" else [])


# ---- wrong sizes, wrong versions, other things ----

@pytest.mark.parametrize("size", [0, 1, 1 << 30])
@pytest.mark.parametrize("record", ["hurt", "image"])
def test_record_of_a_wrong_size_is_damage(victim, record, size):
    path = victim.stored(victim.hurt) + ".meta" if record == "hurt" else \
        os.path.join(victim.stored(victim.image), "image")
    os.truncate(path, size)
    p = check_code(victim)
    assert p.returncode == 4
    assert os.path.basename(getattr(victim, record)) in p.stdout
    victim.mount()
    assert len(os.listdir(os.path.dirname(victim.hurt))) == 2
    with refused(EUCLEAN):
        os.unlink(victim.other)
    with refused(EUCLEAN):
        os.unlink(victim.hurt)
    victim.gc(expect=None)
    victim.unmount()
    assert os.path.getsize(path) == size


@pytest.mark.parametrize("area", ["domain", "changes", "mailbox"])
@pytest.mark.parametrize("size", [0, 100, 1 << 30])
def test_area_of_a_wrong_size_is_refused(victim, area, size):
    os.truncate(stored_area(victim, area), size)
    with pytest.raises(MountFailed) as e:
        victim.mount()
    assert area in e.value.text and e.value.code == 32
    assert check_code(victim).returncode in (4, 8)


def newer(text):
    """The same record by a later version, with a right sum."""
    head, _, body = text.partition(b"\n")
    words = head.split(b" ")
    head = b" ".join(words[:2] + [b"2", words[3], b""])
    return head + b"%08x\n" % crc32c(head + body) + body


def test_domain_of_a_newer_version_is_left_alone(victim):
    path = stored_area(victim, "domain")
    with open(path, "r+b") as f:
        blocks = [f.read(BLOCK).rstrip(b"\0") for _ in range(2)]
        f.seek(0)
        for block in blocks:
            f.write(newer(block).ljust(BLOCK, b"\0"))
    with open(path, "rb") as f:
        before = f.read()
    for options in ({}, {"ro": True}):
        with pytest.raises(MountFailed) as e:
            victim.mount(**options)
        assert "newer version" in e.value.text
    p = check_code(victim, "--repair")
    assert p.returncode in (4, 8) and "newer version" in p.stdout
    assert victim.tool("format", victim.source).returncode != 0
    with open(path, "rb") as f:
        assert f.read() == before


def test_volume_of_a_newer_version_is_left_alone(victim):
    path = victim.stored(victim.hurt) + ".meta"
    with open(path, "rb") as f:
        text = newer(f.read())
    with open(path, "wb") as f:
        f.write(text)
    check_code(victim, "--repair")
    victim.mount()
    with refused(EUCLEAN):
        os.open(victim.hurt, os.O_RDWR)
    assert "newer version" in get(victim.hurt, "error")
    with refused(EUCLEAN):
        put(victim.hurt, "description", "older")
    victim.unmount()
    with open(path, "rb") as f:
        assert f.read() == text


def test_directory_that_is_no_domain_is_refused(workshop):
    d = workshop.domain(formatted=False)
    with open(os.path.join(d.source, "letter.txt"), "w") as f:
        f.write("dear")
    with pytest.raises(MountFailed) as e:
        d.mount()
    assert "no storage domain" in e.value.text and e.value.code == 32
    assert check_code(d).returncode == 8
    assert os.listdir(d.source) == ["letter.txt"]
    file = os.path.join(workshop.base, "file")
    open(file, "w").close()
    for source in (file, file + ".not", "/dev/null"):
        for command in (["check", source], ["format", source],
                        ["mount", source, d.mnt, "-o", "locks=local"]):
            p = d.tool(*command)
            assert p.returncode not in (0, 1) or command[0] == "format"
            assert p.returncode > 0 and source in p.stdout, p.stdout


# ---- planted links and pipes ----

def names_to_plant(d):
    """Each kind of name below a domain: those that exist, and markers."""
    image, volume = d.stored(d.image), d.stored(d.hurt)
    new = os.path.join(d.source, "images", new_uuid())
    return ([stored_area(d, n) for n in
             ("domain", "ids", "leases", "mailbox", "changes")] +
            [d.source + "/ovstorfs", d.source + "/images", image,
             image + ".new", image + ".removed", image + ".dying", new,
             new + ".new", new + ".removed", new + ".dying",
             volume, volume + ".lease"] +
            [image + "/image" + s for s in ("", ".set", ".undo",
                                            ".removing")] +
            [volume + ".meta" + s for s in ("", ".new", ".set", ".undo",
                                            ".removing", ".removed",
                                            ".dying")])


def plant(kind, path, outside):
    if os.path.lexists(path):
        os.rename(path, outside + "/moved")
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        os.mkdir(path)
    else:
        os.symlink(outside + "/" + kind.split()[1], path)


def discard(path):
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.exists(path):
        os.unlink(path)


def do_everything(d):
    """Verbs that would read or write what is planted; errors are fine."""
    for act in (lambda: open(d.hurt, "r+b").close(),
                lambda: put(d.hurt, "description", "new words"),
                lambda: put(d.image, "description", "new words"),
                lambda: put(d.mnt, "warn_free", "12%"),
                lambda: os.truncate(d.hurt, 100),
                lambda: d.new_volume(d.image),
                lambda: put(d.hurt, "parent", os.path.basename(d.other)),
                lambda: os.unlink(d.hurt),
                lambda: os.rename(d.image, os.path.join(
                    d.trash, os.path.basename(d.image))),
                lambda: os.rmdir(os.path.join(
                    d.trash, os.path.basename(d.image)))):
        try:
            act()
        except OSError as e:
            assert e.errno not in (ENOTCONN, ECONNABORTED, ETIMEDOUT), e


@pytest.mark.parametrize("kind", ["link file", "link dir", "link nowhere",
                                  "fifo", "directory"])
def test_planted_thing_is_not_followed(victim, workshop, kind):
    outside = workshop.dir("outside")
    pristine = workshop.dir("pristine")
    run("cp", "-a", "--sparse=always", victim.source + "/.", pristine,
        check=0)
    os.mkdir(outside + "/dir")
    for name in ("/file", "/dir/precious"):
        with open(outside + name, "w") as f:
            f.write("precious" * 1000)
    for path in names_to_plant(victim):
        plant(kind, path, outside)
        check_code(victim)
        try:
            victim.mount(timeout=15)
        except MountFailed as e:
            assert e.code == 32 and e.text.strip(), path
        else:
            do_everything(victim)
            victim.gc(expect=None)
            victim.unmount()
        check_code(victim, "--repair")
        for name in ("/file", "/dir/precious"):
            with open(outside + name, "rb") as f:
                assert f.read() == b"precious" * 1000, f"{path}: {name}"
        assert set(os.listdir(outside)) <= {"file", "dir", "moved"}, path
        assert os.listdir(outside + "/dir") == ["precious"], path
        discard(outside + "/moved")
        discard(victim.source)
        run("cp", "-a", "--sparse=always", pristine, victim.source, check=0)
    victim.check()


# ---- a full disk, a read-only one, one that is somebody else's ----

@pytest.mark.timeout(300)
def test_full_disk_stops_verbs_whole(stage, workshop, loop): # noqa: F811
    """With less and less room each verb happens or answers ENOSPC."""
    at = loop(96)
    d = Domain(workshop.dir("full"), source=os.path.join(at, "storage"))
    workshop.domains.append(d)
    filler = os.path.join(at, "filler")
    met = set()
    for blocks in [0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 40, 70, 150, 256, 300,
                   400, 520, 700]:
        shutil.rmtree(d.source)
        os.mkdir(d.source)
        stage.put_copy(d.source)
        d.mount()
        with open(filler, "wb") as f:
            fill(f.fileno(), at, blocks * BLOCK)
        done, failed = stage.play(d)
        assert d.is_alive(), f"{blocks} blocks free"
        for name, e in failed.items():
            assert e.errno == ENOSPC, f"{blocks} blocks free: {name}: {e}"
            met.add(name)
        stage.judge(d, done, failed, f"{blocks} blocks free, live")
        os.unlink(filler)
        d.remount()
        d.gc()
        stage.judge(d, done, failed, f"{blocks} blocks free")
        stage.clean_up(d, f"{blocks} blocks free")
    assert {"touch", "preallocate"} <= met


def fill(fd, at, leave):
    size = 0
    for step in (1 << 20, 1 << 16, BLOCK):
        while True:
            v = os.statvfs(at)
            if v.f_bavail * v.f_frsize < leave + step:
                break
            try:
                os.posix_fallocate(fd, size, step)
            except OSError:
                break
            size += step
    os.fsync(fd)


def test_read_only_file_system_is_mounted_ro_or_not_at_all(workshop, loop):
    at = loop(96)
    d = workshop.domain(source=os.path.join(at, "storage"))
    d.mount()
    volume = d.new_volume(size=4096)
    d.unmount()
    run("mount", "-o", "remount,ro", at, check=0)
    with pytest.raises(MountFailed) as e:
        d.mount()
    assert e.value.code == 32 and "ro" in e.value.text
    d.check()
    assert d.tool("format", d.source).returncode != 0
    d.mount(ro=True)
    with open(volume, "rb") as f:
        assert f.read() == bytes(4096)
    for act in (lambda: os.mkdir(os.path.join(d.images, new_uuid())),
                lambda: os.unlink(volume), lambda: os.truncate(volume, 0),
                lambda: os.open(volume, os.O_RDWR),
                lambda: put(volume, "description", "x")):
        with refused(EROFS):
            act()
    d.unmount()


def test_local_locks_are_refused_on_fuse(domain, workshop):
    """Lock files of a FUSE file system may lie on another machine: here it is
    one of our own volumes, bound over the lock file."""
    lower = workshop.domain()
    lower.mount()
    lock = os.path.join(domain.source, "ovstorfs", "domain")
    volume = lower.new_volume()
    shutil.copyfile(lock, volume)
    run("mount", "--bind", volume, lock, check=0)
    try:
        with pytest.raises(MountFailed) as e:
            domain.mount()
        assert e.value.code == 32
        assert "FUSE" in e.value.text and "locks=local" in e.value.text
    finally:
        detach(lock)
    domain.mount()
