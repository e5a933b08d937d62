# SPDX-License-Identifier: GPL-2.0-or-later
"""The bytes of a volume, with the kernel moving them and with the server."""
import ctypes
import errno
import mmap
import os
import random
import threading
from errno import EBUSY, EFBIG, EINVAL, EOPNOTSUPP, ENXIO

import pytest

from conftest import get, libc, put, refused, run, wait_until

KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
COLLAPSE_RANGE, INSERT_RANGE = 8, 32
MIB = 1 << 20


@pytest.fixture(params=["on", "off"])
def bytes_by(request, domain):
    """Mounted with passthrough, and without."""
    domain.mount(passthrough=request.param)
    return domain


def fallocate(fd, mode, offset, length):
    if libc.fallocate(fd, mode, ctypes.c_int64(offset),
                      ctypes.c_int64(length)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def read_all(path):
    with open(path, "rb") as f:
        return f.read()


def holes(fd, size):
    """The parts that hold data, as lseek tells."""
    found, at = [], 0
    while True:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as e:
            assert e.errno == ENXIO
            return found
        at = os.lseek(fd, start, os.SEEK_HOLE)
        found.append((start, at))
        assert at <= size


def test_option_decides_who_moves_the_bytes(domain):
    for wanted in ("on", "off"):
        domain.mount(passthrough=wanted)
        with open(domain.new_volume(), "r+b") as f:
            f.write(b"x")
        status = domain.status()
        opened = status["open"]
        if wanted == "off":
            assert status["passthrough"] == "off"
            assert opened["passthrough"] == 0 < opened["direct"]
        elif status["passthrough"] == "on":
            assert opened["passthrough"] + opened["passthrough_refused"] > 0
        domain.unmount()


def test_written_bytes_are_read_back_after_a_remount(bytes_by):
    volume = bytes_by.new_volume()
    data = random.Random(1).randbytes(3 * MIB + 17)
    with open(volume, "wb") as f:
        f.write(data)
    assert read_all(volume) == data
    assert read_all(bytes_by.stored(volume)) == data
    bytes_by.remount()
    assert os.stat(volume).st_size == len(data)
    assert read_all(volume) == data


def test_append_and_write_past_the_end_extend(bytes_by):
    volume = bytes_by.new_volume()
    with open(volume, "ab", buffering=0) as f:
        for i in range(10):
            f.write(bytes([65 + i]) * 1000)
            assert os.stat(volume).st_size == 1000 * (i + 1)
    with open(volume, "r+b", buffering=0) as f:
        os.pwrite(f.fileno(), b"end", 5 * MIB)
        assert os.fstat(f.fileno()).st_size == 5 * MIB + 3
    data = read_all(volume)
    assert data[:10000] == b"".join(bytes([65 + i]) * 1000 for i in range(10))
    assert data[10000:5 * MIB] == bytes(5 * MIB - 10000)
    assert data[5 * MIB:] == b"end"


def test_truncated_bytes_are_gone_for_good(bytes_by):
    volume = bytes_by.new_volume()
    with open(volume, "wb") as f:
        f.write(b"\xaa" * (2 * MIB))
    os.truncate(volume, 1000)
    os.truncate(volume, 3 * MIB)
    assert read_all(volume) == b"\xaa" * 1000 + bytes(3 * MIB - 1000)
    with open(volume, "r+b") as f:
        f.truncate(10)
        f.truncate(2000)
        assert f.read() == b"\xaa" * 10 + bytes(1990)
    assert os.stat(volume).st_size == 2000


def test_grown_volume_reads_as_zeros_and_takes_no_space(bytes_by):
    volume = bytes_by.new_volume(size=1 << 40)
    st = os.stat(volume)
    assert (st.st_size, st.st_blocks) == (1 << 40, 0)
    with open(volume, "rb") as f:
        f.seek((1 << 40) - 4096)
        assert f.read() == bytes(4096)


@pytest.mark.parametrize("size", [-1, -(1 << 63)])
def test_negative_size_is_refused(mounted, size):
    volume = mounted.new_volume(size=4096)
    with refused(EINVAL):
        os.truncate(volume, size)
    assert os.stat(volume).st_size == 4096


def test_largest_size_is_the_storages_own(mounted):
    volume = mounted.new_volume(size=4097)
    with refused(EFBIG, EINVAL):
        os.truncate(volume, (1 << 63) - 1)
    with open(volume, "r+b") as f:
        with refused(EFBIG, EINVAL):
            f.truncate((1 << 63) - 1)
        with refused(EFBIG, EINVAL):
            os.pwrite(f.fileno(), b"x", (1 << 63) - 2)
    assert os.stat(volume).st_size == 4097
    mounted.check()


def test_odd_offsets_and_sizes_are_kept(bytes_by):
    volume = bytes_by.new_volume(size=511)
    with open(volume, "r+b", buffering=0) as f:
        for at in (1, 511, 4095, 65537):
            os.pwrite(f.fileno(), b"abc", at)
        os.truncate(volume, 65539)
        assert f.read()[-3:] == b"\0ab"


def test_punched_hole_reads_as_zeros_and_frees_space(bytes_by):
    volume = bytes_by.new_volume()
    with open(volume, "w+b", buffering=0) as f:
        fd = f.fileno()
        f.write(b"\x55" * (4 * MIB))
        os.fsync(fd)
        before = os.fstat(fd).st_blocks
        fallocate(fd, PUNCH_HOLE | KEEP_SIZE, MIB, 2 * MIB)
        assert os.fstat(fd).st_blocks <= before - 2 * MIB // 512
        assert os.fstat(fd).st_size == 4 * MIB
        assert holes(fd, 4 * MIB) == [(0, MIB), (3 * MIB, 4 * MIB)]
        fallocate(fd, ZERO_RANGE, 0, 4096)
        with refused(EOPNOTSUPP, EINVAL):
            fallocate(fd, COLLAPSE_RANGE, 0, 4096)
        with refused(EOPNOTSUPP, EINVAL):
            fallocate(fd, INSERT_RANGE, 0, 4096)
    assert read_all(volume) == (bytes(4096) + b"\x55" * (MIB - 4096) +
                                bytes(2 * MIB) + b"\x55" * MIB)


def test_fallocate_reserves_and_extends(bytes_by):
    volume = bytes_by.new_volume()
    with open(volume, "r+b", buffering=0) as f:
        fd = f.fileno()
        fallocate(fd, KEEP_SIZE, 0, MIB)
        assert os.fstat(fd).st_size == 0
        assert os.fstat(fd).st_blocks >= MIB // 512
        fallocate(fd, 0, 0, 2 * MIB)
        assert os.fstat(fd).st_size == 2 * MIB
        fallocate(fd, ZERO_RANGE | KEEP_SIZE, 2 * MIB, MIB)
        assert os.fstat(fd).st_size == 2 * MIB
    assert read_all(volume) == bytes(2 * MIB)


def test_copy_keeps_bytes(bytes_by):
    source, target = bytes_by.new_volume(), bytes_by.new_volume()
    data = random.Random(2).randbytes(MIB)
    with open(source, "wb") as f:
        f.write(data)
        f.truncate(8 * MIB)
    with open(source, "rb") as a, open(target, "r+b") as b:
        done = 0
        while done < 8 * MIB:
            n = os.copy_file_range(a.fileno(), b.fileno(), 8 * MIB - done)
            assert n > 0
            done += n
    assert read_all(target) == read_all(source)
    run("cp", "--sparse=always", source, target, check=0)
    assert read_all(target) == data + bytes(7 * MIB)
    assert os.stat(target).st_blocks * 512 < 4 * MIB


def test_direct_io_reads_what_was_written(bytes_by):
    volume = bytes_by.new_volume(size=MIB)
    buffer = mmap.mmap(-1, 65536)
    buffer.write(random.Random(3).randbytes(65536))
    fd = os.open(volume, os.O_RDWR | os.O_DIRECT)
    assert os.pwrite(fd, buffer, 4096) == 65536
    back = mmap.mmap(-1, 65536)
    assert os.preadv(fd, [back], 4096) == 65536
    os.close(fd)
    assert back[:] == buffer[:]
    assert read_all(volume)[4096:4096 + 65536] == buffer[:]


@pytest.mark.parametrize("by", ["on", "off"])
def test_mapping_keeps_a_closed_volume_in_use(domain, by):
    """A shared mapping outlives the last close, and so does the lease."""
    domain.mount(passthrough=by)
    volume = domain.new_volume(size=MIB)
    with open(volume, "r+b") as f:
        mapping = mmap.mmap(f.fileno(), MIB)
    mapping[0:5] = b"first"
    with refused(EBUSY):
        os.unlink(volume)
    mapping[4096:4101] = b"later"
    with open(volume, "r+b") as f:
        assert f.read(5) == b"first"
    with refused(EBUSY):
        os.unlink(volume)
    mapping.flush()
    mapping.close()

    def removed():
        try:
            os.unlink(volume)
        except OSError as e:
            assert e.errno == EBUSY
            return False
        return True

    wait_until(removed, what="removal after munmap")


def test_mapped_writes_reach_the_storage(bytes_by):
    volume = bytes_by.new_volume(size=MIB)
    with open(volume, "r+b") as f, mmap.mmap(f.fileno(), MIB) as m:
        m[MIB - 4:] = b"tail"
        m.flush()
        assert os.pread(f.fileno(), 4, MIB - 4) == b"tail"
    assert read_all(bytes_by.stored(volume))[-4:] == b"tail"


def test_open_close_rm_never_meets_ebusy(bytes_by):
    image = bytes_by.new_image()
    for i in range(1000):
        volume = bytes_by.new_volume(image)
        with open(volume, "r+b", buffering=0) as f:
            f.write(b"x" * (i % 7))
        os.unlink(volume)
    assert os.listdir(os.path.join(image, "volumes")) == []


def test_parallel_writers_keep_their_bytes(bytes_by):
    volume = bytes_by.new_volume()
    failed = []

    def write(n):
        try:
            fd = os.open(volume, os.O_RDWR)
            for i in range(64):
                os.pwrite(fd, bytes([n]) * 16384, (i * 8 + n) * 16384)
            os.fsync(fd)
            os.close(fd)
        except OSError as e:
            failed.append(e)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed
    data = read_all(volume)
    assert len(data) == 8 * 64 * 16384
    for at in range(0, len(data), 16384):
        wanted = at // 16384 % 8
        assert data[at:at + 16384] == bytes([wanted]) * 16384


def test_both_ways_of_one_volume_agree(bytes_by):
    """A reader, a writer and the size by stat at the same time."""
    volume = bytes_by.new_volume()
    with open(volume, "rb", buffering=0) as r:
        with open(volume, "r+b", buffering=0) as w:
            for i in range(1, 50):
                w.write(bytes([i]) * 1000)
                assert r.read(1000) == bytes([i]) * 1000
                assert os.stat(volume).st_size == 1000 * i
    os.truncate(volume, 5)
    assert read_all(volume) == bytes([1]) * 5


def test_preallocated_volume_has_its_blocks(mounted):
    volume = mounted.new_volume(allocation="preallocated")
    os.truncate(volume, 8 * MIB)
    assert os.stat(volume).st_blocks >= 8 * MIB // 512
    assert int(get(volume, "allocated")) >= 8 * MIB
    with open(volume, "r+b") as f:
        f.truncate(12 * MIB)
        assert os.fstat(f.fileno()).st_blocks >= 12 * MIB // 512
    os.truncate(volume, MIB)
    assert os.stat(volume).st_blocks < 3 * MIB // 512
    assert read_all(volume) == bytes(MIB)
    put(volume, "description", "done")
    mounted.unmount()
    mounted.check()


def test_preallocation_that_does_not_fit_changes_nothing(workshop, loop):
    d = workshop.domain(source=loop(24))
    d.mount()
    volume = d.new_volume(allocation="preallocated", size=MIB)
    with refused(errno.ENOSPC):
        os.truncate(volume, 256 * MIB)
    assert os.stat(volume).st_size == MIB
    d.gc()
    assert os.stat(volume).st_blocks < 3 * MIB // 512
    d.unmount()
    d.check()
