# SPDX-License-Identifier: GPL-2.0-or-later
"""Leases by sanlock: a daemon with a directory of its own is a host."""
import os
import signal
import subprocess
import time
from errno import EAGAIN, EBUSY, EIO, ENOTCONN, EROFS

import pytest

from conftest import (Domain, MountFailed, get, need_program, put, refused,
                      wait_until)

IO_TIMEOUT = 1 # joining takes some 3 s with it


class Host:
    def __init__(self, shop, name):
        self.name = name
        self.run_dir = shop.dir("sanlock-" + name)
        env = dict(os.environ, SANLOCK_RUN_DIR=self.run_dir,
                   SANLOCK_PRIVILEGED="0")
        self.log = open(os.path.join(self.run_dir, "log"), "w")
        self.daemon = subprocess.Popen(
            ["sanlock", "daemon", "-D", "-w", "0", "-h", "0", "-l", "0",
             "-U", "root", "-G", "root", "-e", name, "-L", "-1", "-S", "-1"],
            env=env, stdin=subprocess.DEVNULL, stdout=self.log,
            stderr=self.log, start_new_session=True)
        wait_until(lambda: os.path.exists(
            os.path.join(self.run_dir, "sanlock.sock")), what="sanlock")
        shop.later(self.stop)

    def stop(self):
        if self.daemon.poll() is None:
            self.daemon.send_signal(signal.SIGKILL)
            self.daemon.wait()
        self.log.close()


@pytest.fixture
def host(workshop):
    need_program("sanlock")
    return lambda name: Host(workshop, name)


@pytest.fixture
def shared(workshop):
    """A domain that hosts can share; mount_on(host) mounts it."""
    d = workshop.domain(formatted=False)
    d.format("--io-timeout", str(IO_TIMEOUT))

    def mount_on(host, joined=True, **options):
        m = Domain(workshop.dir("on-" + host.name), source=d.source,
                   env={"SANLOCK_RUN_DIR": host.run_dir})
        workshop.domains.append(m)
        options = dict(dict(locks="sanlock", no_watchdog=True), **options)
        m.mount(timeout=40, **options)
        if joined:
            wait_joined(m)
        return m

    d.mount_on = mount_on
    return d


def wait_joined(m):
    wait_until(lambda: m.status()["state"] != "joining", 40, "joining")
    assert m.status()["state"] == "ok", m.read_log()


def there(volume, mount):
    """The path of another mount's volume on this one."""
    return os.path.join(mount.mnt, *volume.split("/")[-4:])


def test_joined_host_does_all_verbs(shared, host):
    m = shared.mount_on(host("one"))
    assert m.status()["host_id"] > 0
    assert get(m.mnt, "host_id") == str(m.status()["host_id"])
    base = m.new_volume(size=1 << 20)
    leaf = m.new_layer(base)
    with open(leaf, "r+b") as f:
        f.seek(0, 2)
        f.write(b"more")
        os.fsync(f.fileno())
        assert get(leaf, "holders") == str(m.status()["host_id"])
    put(leaf, "description", "words")
    os.truncate(m.new_volume(), 12345)
    image = os.path.dirname(os.path.dirname(base))
    trashed = os.path.join(m.trash, os.path.basename(image))
    os.rename(image, trashed)
    os.rename(trashed, image)
    os.unlink(leaf)
    os.unlink(base)
    os.rmdir(image)
    m.gc()
    assert m.leftovers() == []
    m.unmount()
    m.check()


def test_mount_answers_readers_before_it_has_joined(shared, host):
    one = host("one")
    m = shared.mount_on(one)
    volume = m.new_volume(size=4096)
    m.unmount()
    started = time.monotonic()
    m = shared.mount_on(one, joined=False, verb_timeout=1)
    if m.status()["state"] == "joining":
        assert time.monotonic() - started < 3
        assert os.stat(there(volume, m)).st_size == 4096
        with refused(EAGAIN):
            m.new_image()
    wait_joined(m)
    m.new_image()


def test_change_waits_for_the_join(shared, host):
    m = shared.mount_on(host("one"), joined=False, verb_timeout=30)
    m.new_image()
    assert m.status()["state"] == "ok"


def test_collection_waits_for_the_join(shared, host):
    m = shared.mount_on(host("one"), joined=False)
    m.gc()
    assert m.status()["state"] == "ok"
    assert m.status()["collector"]["rounds"] > 0


def test_change_before_the_join_is_answered_in_time(workshop, host):
    one = host("one")
    d = workshop.domain(formatted=False,
                        env={"SANLOCK_RUN_DIR": one.run_dir})
    d.format("--io-timeout", "10")
    d.mount(locks="sanlock", no_watchdog=True, verb_timeout=1)
    assert d.status()["state"] == "joining"
    for _ in range(2):
        started = time.monotonic()
        with refused(EAGAIN):
            d.new_image()
        assert 0.5 < time.monotonic() - started < 5


def test_written_volume_is_refused_to_another_host(shared, host):
    a = shared.mount_on(host("one"))
    volume = a.new_volume(size=4096)
    b = shared.mount_on(host("two"))
    assert a.status()["host_id"] != b.status()["host_id"]
    other = there(volume, b)
    with open(volume, "r+b") as f:
        for flags in (os.O_RDWR, os.O_WRONLY, os.O_RDONLY):
            with refused(EBUSY):
                os.open(other, flags)
        f.write(b"from one")
    with refused(EBUSY), open(other, "r+b"):
        os.unlink(volume)
    with open(other, "r+b") as f:
        assert f.read(8) == b"from one"
        with refused(EBUSY):
            os.open(volume, os.O_RDWR)
        f.seek(0)
        f.write(b"from two")
    with open(volume, "rb") as x, open(other, "rb") as y:
        assert x.read(8) == y.read(8) == b"from two"
        with refused(EBUSY):
            os.open(volume, os.O_RDWR)
    with open(volume, "r+b"):
        pass


def test_leaf_covers_its_parents_against_another_host(shared, host):
    a = shared.mount_on(host("one"))
    base = a.new_volume(size=1 << 20)
    leaf = a.new_layer(base)
    b = shared.mount_on(host("two"))
    with open(leaf, "r+b"), open(base, "rb"):
        with refused(EBUSY):
            os.unlink(there(leaf, b))
    with open(there(base, b), "rb"), open(base, "rb"):
        pass
    os.unlink(there(leaf, b))


def test_two_hosts_change_one_domain(shared, host):
    a, b = shared.mount_on(host("one")), shared.mount_on(host("two"))
    made = []
    for m in (a, b) * 5:
        made.append(os.path.basename(m.new_image()))
    a.unmount()
    b.unmount()
    a = shared.mount_on(host("three"))
    assert sorted(os.listdir(a.images)) == sorted(made)
    a.unmount()
    a.check()


def test_second_mount_on_a_host_is_refused(shared, host):
    one = host("one")
    a = shared.mount_on(one)
    with pytest.raises(MountFailed) as e:
        shared.mount_on(one)
    assert e.value.code == 32 and "mount" in e.value.text
    a.new_image()
    with pytest.raises(MountFailed) as e:
        shared.mount_on(one, locks="local")
    assert "another mount" in e.value.text
    a.unmount()
    shared.mount_on(one)


def test_host_id_that_is_taken_is_refused(shared, host):
    a = shared.mount_on(host("one"), host_id=5)
    assert a.status()["host_id"] == 5
    try:
        b = shared.mount_on(host("two"), joined=False, host_id=5,
                            verb_timeout=1)
    except MountFailed as e:
        # The lock of a host id on this machine, before sanlock is asked.
        assert e.code == 32 and "another mount" in e.text
    else:
        with refused(EAGAIN, EROFS, EBUSY):
            b.new_image()
        assert b.status()["state"] != "ok"
    a.new_image()


def test_daemon_that_is_not_there_is_told(shared, workshop):
    m = Domain(workshop.dir("alone"), source=shared.source,
               env={"SANLOCK_RUN_DIR": workshop.dir("nobody")})
    workshop.domains.append(m)
    with pytest.raises(MountFailed) as e:
        m.mount(locks="sanlock", no_watchdog=True)
    assert e.value.code == 32 and "sanlock" in e.value.text


def test_sanlock_without_a_watchdog_is_refused(shared, host):
    with pytest.raises(MountFailed) as e:
        shared.mount_on(host("one"), no_watchdog=False)
    assert e.value.code == 32 and "watchdog" in e.value.text


def test_next_mount_takes_over_what_a_dead_one_held(shared, host):
    one = host("one")
    m = shared.mount_on(one)
    volume = m.new_volume(size=4096)
    fd = os.open(volume, os.O_RDWR)
    os.write(fd, b"orphan")
    m.kill_server()
    m = shared.mount_on(one)
    try:
        os.close(fd)
    except OSError as e: # the last breath of the dead mount
        assert e.errno == ENOTCONN
    with open(there(volume, m), "r+b") as f:
        f.write(b"again")
    os.unlink(there(volume, m))


def test_writer_that_outlives_its_server_keeps_others_out(shared, host):
    one = host("one")
    m = shared.mount_on(one, host_id=1)
    volume = m.new_volume(size=4096)
    if m.status()["open"]["passthrough"] == 0:
        pytest.skip("no passthrough: a writer does not outlive the server")
    other = shared.mount_on(host("two"), host_id=2)
    fd = os.open(volume, os.O_RDWR)
    m.kill_server()
    assert os.write(fd, b"still here") == 10
    with refused(EBUSY):
        os.open(there(volume, other), os.O_RDWR)
    again = shared.mount_on(one, host_id=1)
    with refused(EBUSY):
        os.unlink(there(volume, again))
    with refused(ENOTCONN): # close flushes, and nobody is there to answer
        os.close(fd)
    os.unlink(there(volume, again))
    again.gc()
    assert not os.path.exists(there(volume, again))


def test_lost_daemon_stops_all_changes(shared, host):
    one = host("one")
    m = shared.mount_on(one, passthrough="off")
    volume = m.new_volume(size=4096)
    with open(volume, "r+b", buffering=0) as f:
        f.write(b"before")
        one.stop()
        wait_until(lambda: m.status()["state"] == "lost", 20, "the loss")
        with refused(EIO, EROFS):
            f.write(b"after")
        with refused(EIO, EROFS):
            m.new_image()
    assert os.stat(volume).st_size == 4096
    m.tool("unmount", m.mnt)
    m.wait_dead()
