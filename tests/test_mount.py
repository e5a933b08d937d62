# SPDX-License-Identifier: GPL-2.0-or-later
"""Formatting, mounting, unmounting, and what a mount tells of itself."""
import json
import os
import re
import select
import signal
import subprocess
import threading
from errno import EACCES, EINVAL, EPERM, EROFS

import pytest

from conftest import (BUILD, Events, MountFailed, get, is_running,
                      mount_line, need_program, new_uuid, put, refused, run,
                      wait_exit)

USAGE, FAILED = 1, 32 # as mount(8) has them


# ---- format ----

def test_formatted_domain_has_a_name_and_a_uuid(workshop):
    first, second = workshop.domain(formatted=False), workshop.domain()
    first.format("--name", "tank of ünits")
    first.mount()
    second.mount()
    assert first.status()["name"] == "tank of ünits"
    assert second.status()["name"] == ""
    uuids = {d.status()["domain"] for d in (first, second)}
    assert len(uuids) == 2
    assert all(re.match(r"[0-9a-f-]{36}$", u) for u in uuids)
    first.unmount()
    first.check()


def test_format_keeps_what_is_there(domain, workshop):
    domain.mount()
    volume = domain.new_volume(size=4096)
    domain.unmount()
    for options in ([], ["--force"]):
        p = domain.tool("format", *options, domain.source)
        assert p.returncode != 0 and "already" in p.stdout
    domain.mount()
    assert os.path.exists(volume)
    other = workshop.domain(formatted=False)
    with open(os.path.join(other.source, "letter"), "w") as f:
        f.write("dear")
    p = other.tool("format", other.source)
    assert p.returncode != 0 and "not empty" in p.stdout
    assert os.listdir(other.source) == ["letter"]
    other.tool("format", "--force", other.source, check=0)
    assert "letter" in os.listdir(other.source)
    other.mount()


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 1025, b"\xff"])
def test_bad_domain_name_is_refused(workshop, name):
    d = workshop.domain(formatted=False)
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    assert d.tool("format", "--name", name, d.source).returncode != 0
    with pytest.raises(MountFailed):
        d.mount()


def test_interrupted_format_can_be_repeated(workshop):
    d = workshop.domain()
    os.truncate(os.path.join(d.source, "ovstorfs", "domain"), 0)
    os.unlink(os.path.join(d.source, "ovstorfs", "changes"))
    d.format()
    d.mount()
    d.unmount()
    d.check()


# ---- mount: what it says when it cannot ----

def mount_error(d, *argv):
    p = d.tool("mount", *argv, timeout=40)
    assert p.returncode != 0 and p.stdout.strip(), p.stdout
    assert "Traceback" not in p.stdout and not mount_line(d.mnt)
    return p


@pytest.mark.parametrize("options", [
    "frobnicate", "locks=maybe", "locks", "host_id=0", "host_id=251",
    "host_id=-1", "host_id=x", "gc_period=-1", "gc_period=soon",
    "verb_timeout=0", "mode=0777", "mode=9", "uid=nobody-here", "gid=-1",
    "passthrough=perhaps", "trash_retention=1e3", "fault=no.such", "fault=",
    "fault=volume_create.data:0", "fault=volume_create.data:1:EWHAT",
    "fault=volume_create.data:1:kill:more", "size=1G", "loop", "remount"])
def test_unknown_options_and_values_are_refused(domain, options):
    p = mount_error(domain, domain.source, domain.mnt, "-o",
                    f"locks=local,{options}")
    assert p.returncode == USAGE
    assert options.split("=")[0].split(",")[0] in p.stdout


def test_options_of_fstab_are_accepted(domain):
    domain.mount(rw=True, nodev=True, _netdev=True, nofail=True,
                 noauto=True, **{"x-systemd.automount": True})
    domain.new_image()


def test_usage_errors_are_told(domain):
    for argv in ([], [domain.source], [domain.source, domain.mnt, "third"],
                 ["--no-such-option", domain.source, domain.mnt]):
        p = domain.tool("mount", *argv)
        assert p.returncode in (USAGE, FAILED) and p.stdout.strip()
    for argv in ([], ["frobnicate"], ["--frobnicate"], ["format"], ["gc"],
                 ["check"], ["unmount"], ["explain"]):
        p = domain.tool(*argv)
        assert p.returncode > 0 and p.stdout.strip(), argv


def test_mount_point_must_be_a_directory_that_is_there(domain):
    for point in (domain.mnt + "-not", "/dev/null"):
        p = mount_error(domain, domain.source, point, "-o", "locks=local")
        assert p.returncode == FAILED and point in p.stdout


def test_second_mount_of_a_domain_is_refused(domain, workshop):
    domain.mount()
    second = workshop.domain(source=domain.source, formatted=False)
    with pytest.raises(MountFailed) as e:
        second.mount()
    assert e.value.code == FAILED and "another mount" in e.value.text
    domain.new_volume()
    domain.unmount()
    second.mount()


def test_without_locks_a_mount_wants_sanlock(domain, workshop):
    """And says so clearly where no daemon runs."""
    domain.env["SANLOCK_RUN_DIR"] = workshop.dir("no-daemon")
    p = mount_error(domain, domain.source, domain.mnt)
    assert p.returncode == FAILED and "sanlock" in p.stdout


# ---- mount: that it is there ----

def test_mount_returns_when_it_answers_and_leaves_no_process(domain):
    before = os.getpid()
    domain.tool("mount", domain.source, domain.mnt, "-o", "locks=local",
                check=0)
    status = domain.status()
    pids = [status["keeper_pid"], status["server_pid"]]
    try:
        assert len(set(pids + [before])) == 3 and all(map(is_running, pids))
        source, fstype, options = mount_line(domain.mnt)
        assert fstype == "fuse.ovstorfs" and source == domain.source
        assert {"nodev", "nosuid", "rw", "allow_other",
                "default_permissions"} <= set(options)
        domain.new_volume(size=1 << 20)
        # Daemons stand on nothing that others may want to unmount.
        for pid in pids:
            assert os.readlink(f"/proc/{pid}/cwd") == "/"
            assert os.getsid(pid) != os.getsid(0)
    finally:
        p = domain.tool("unmount", domain.mnt)
    assert p.returncode == 0, p.stdout
    assert not mount_line(domain.mnt)
    assert not any(map(is_running, pids))
    domain.check()


def test_mount_right_after_a_plain_umount_waits(domain):
    for _ in range(5):
        domain.mount()
        image = domain.new_image()
        domain.status()
        run("umount", domain.mnt, check=0)
        old = domain.process
        domain.process = None
        domain.mount()
        assert os.path.exists(image)
        old.wait(10)
        domain.unmount()


def test_busy_mount_is_not_unmounted(domain):
    domain.mount()
    volume = domain.new_volume()
    with open(volume, "r+b"):
        p = domain.tool("unmount", domain.mnt)
        assert p.returncode != 0 and "busy" in p.stdout.lower()
        assert os.path.exists(volume)
    p = domain.tool("unmount", domain.source + "/images")
    assert p.returncode != 0 and p.stdout.strip()


def test_unmount_by_a_signal(domain):
    for number in (signal.SIGTERM, signal.SIGINT):
        domain.mount()
        status = domain.status()
        domain.new_volume()
        os.kill(status["keeper_pid"], number)
        domain.process.wait(10)
        assert not mount_line(domain.mnt)
        wait_exit(status["server_pid"])
        domain.process = None
        domain.check()


def test_dead_server_ends_its_keeper(domain):
    domain.mount()
    volume = domain.new_volume(size=4096)
    status = domain.status()
    assert status["server_restarts"] == 0
    domain.kill_server()
    assert not is_running(status["keeper_pid"])
    domain.mount()
    assert os.path.exists(volume)


def test_dead_keeper_ends_its_server(domain):
    domain.mount()
    status = domain.status()
    os.kill(status["keeper_pid"], signal.SIGKILL)
    wait_exit(status["server_pid"])
    domain.wait_dead()
    domain.mount()


def test_links_name_the_command(domain):
    domain.mount()
    domain.unmount()
    links = {n: os.path.join(domain.base, n) for n in
             ("mount.ovstorfs", "mount.fuse.ovstorfs", "fsck.ovstorfs",
              "mkfs.ovstorfs")}
    for path in links.values():
        os.symlink(domain.exe, path)
    run(links["fsck.ovstorfs"], domain.source, check=0)
    fresh = os.path.join(domain.base, "fresh")
    os.mkdir(fresh)
    run(links["mkfs.ovstorfs"], fresh, check=0)
    for name, argv in (
            ("mount.ovstorfs", [domain.source, domain.mnt, "-o",
                                "rw,locks=local"]),
            ("mount.fuse.ovstorfs", [fresh, domain.mnt, "-s", "-n", "-o",
                                     "locks=local,nofail"])):
        run(links[name], *argv, check=0)
        assert mount_line(domain.mnt)[1] == "fuse.ovstorfs"
        domain.tool("unmount", domain.mnt, check=0)


def test_mount_by_type_finds_the_program(domain):
    """mount(8) looks in /sbin only, so it gets one of its own."""
    need_program("unshare")
    sbin = os.path.join(domain.base, "sbin")
    os.mkdir(sbin)
    script = f"""
        set -e
        mount --make-rprivate /
        mount -t overlay overlay -o lowerdir={sbin}:/sbin /sbin ||
            mount --bind {sbin} /sbin
        for type in fuse.ovstorfs ovstorfs; do
            /bin/mount -t $type {domain.source} {domain.mnt} -o locks=local
            grep ' fuse.ovstorfs ' /proc/self/mounts
            mkdir {domain.mnt}/images/$(cat /proc/sys/kernel/random/uuid)
            {domain.exe} unmount {domain.mnt}
        done
    """
    for name in ("mount.ovstorfs", "mount.fuse.ovstorfs"):
        os.symlink(domain.exe, os.path.join(sbin, name))
    p = run("unshare", "-m", "/bin/sh", "-c", script)
    assert p.returncode == 0, p.stdout
    domain.mount()
    assert len(os.listdir(domain.images)) == 2


def test_read_only_mount_changes_nothing(domain):
    domain.mount()
    volume = domain.new_volume(size=4096, description="words")
    image = os.path.dirname(os.path.dirname(volume))
    domain.unmount()
    domain.mount(ro=True)
    assert "ro" in mount_line(domain.mnt)[2]
    assert domain.status()["state"] == "read-only"
    assert get(volume, "description") == "words"
    with open(volume, "rb") as f:
        assert f.read() == bytes(4096)
    for act in (lambda: os.unlink(volume), lambda: os.mkdir(image + "0"),
                lambda: os.rename(image, domain.trash + "/" +
                                  os.path.basename(image)),
                lambda: put(volume, "description", "x"),
                lambda: os.truncate(volume, 0),
                lambda: os.open(volume, os.O_RDWR)):
        with refused(EROFS):
            act()


# ---- the configuration file ----

def write_config(d, text):
    path = os.path.join(d.base, "ovstorfs.conf")
    with open(path, "w") as f:
        f.write(text)
    d.env["OVSTORFS_CONF"] = path


def test_section_of_the_configuration_is_mounted_by_name(domain):
    write_config(domain, f"""
[default]
options = locks=local,mode=0600
[tank]
source = {domain.source}
mountpoint = {domain.mnt}
options = uid=5,trash_retention=77
""")
    domain.tool("mount", "tank", "-o", "uid=6", check=0)
    try:
        st = os.stat(domain.new_volume())
        assert (st.st_mode & 0o777, st.st_uid) == (0o600, 6)
    finally:
        domain.tool("unmount", "tank", check=0)
    assert not mount_line(domain.mnt)
    p = domain.tool("mount", "pond")
    assert p.returncode != 0 and "pond" in p.stdout
    p = domain.tool("mount", "default")
    assert p.returncode != 0


@pytest.mark.parametrize("text", [
    "[tank]\noptions = locks=local\n", "[tank\nsource = /x\n",
    "[tank]\nsource = /x\nmountpoint = /y\noptions = frob=1\n"])
def test_bad_configuration_is_told(domain, text):
    write_config(domain, text)
    p = domain.tool("mount", "tank")
    assert p.returncode != 0
    assert "tank" in p.stdout or "ovstorfs.conf" in p.stdout


# ---- what it tells ----

def test_status_tells_who_serves_what(domain):
    domain.mount(host_id=3)
    domain.new_volume()
    s = domain.status()
    assert {"domain", "name", "host_id", "state", "keeper_pid", "server_pid",
            "server_restarts", "space", "passthrough"} <= set(s)
    assert (s["host_id"], s["state"]) == (3, "ok")
    assert s["source"] == os.path.realpath(domain.source)
    v = os.statvfs(domain.source)
    assert s["space"]["total"] == v.f_blocks * v.f_frsize
    assert 0 < s["space"]["free"] <= s["space"]["total"]
    assert s["space"]["level"] in ("ok", "warn", "critical")
    assert s["objects"] == {"images": 1, "volumes": 1, "trashed": 0,
                            "damaged": 0}


def test_low_space_is_a_level_and_an_event(domain):
    domain.mount()
    with Events(domain) as events:
        put(domain.mnt, "warn_free", "100%")
        assert events.wait("space")["result"] == "ENOSPC"
        assert domain.status()["space"]["level"] == "warn"
        put(domain.mnt, "critical_free", "100%")
        events.wait("space")
        assert domain.status()["space"]["level"] == "critical"


def test_metrics_are_prometheus_text(domain):
    domain.mount()
    domain.new_volume()
    with open(domain.control("metrics")) as f:
        lines = f.read().splitlines()
    values = {}
    for line in lines:
        if line.startswith("#"):
            assert re.match(r"# (HELP|TYPE) ovstorfs_\w+ .+$", line), line
            continue
        m = re.match(r"(ovstorfs_\w+)(\{[^}]*\})? ([0-9.e+]+)$", line)
        assert m, line
        values[m[1]] = float(m[3])
    assert values["ovstorfs_images"] == values["ovstorfs_volumes"] == 1
    for name in values:
        assert f"# TYPE {name} " in "\n".join(lines)


@pytest.mark.parametrize("name", ["status", "metrics", "events", "collect"])
def test_control_files_are_what_they_are(mounted, name):
    path = mounted.control(name)
    if name != "collect":
        with refused(EACCES, EPERM, EINVAL):
            os.write(os.open(path, os.O_WRONLY), b"x")
        with refused(EACCES, EPERM, EINVAL):
            os.truncate(path, 100)
    with refused(EPERM):
        os.unlink(path)
    # A reader in small steps sees one text, whatever happens meanwhile.
    if name in ("status", "metrics"):
        with open(path, "rb", buffering=0) as f:
            text = f.read(10)
            mounted.new_image()
            while chunk := f.read(10):
                text += chunk
        if name == "status":
            assert json.loads(text)["objects"]["images"] == 0


def test_events_reach_each_reader_from_where_it_opened(mounted):
    mounted.new_image()
    with Events(mounted) as first:
        volume = mounted.new_volume()
        with Events(mounted) as second:
            os.unlink(volume)
            image, name = volume.split("/")[-3], os.path.basename(volume)
            e = first.wait("create")
            assert set(e) == {"time", "host", "event", "object", "result"}
            assert e["object"] == image and e["result"] == "ok"
            assert first.wait("create")["object"] == f"{image}/{name}"
            for events in (first, second):
                assert events.wait("remove")["object"] == f"{image}/{name}"
            assert "create" not in second.names


def test_events_wake_poll_and_a_blocked_read(mounted):
    fd = os.open(mounted.control("events"), os.O_RDONLY | os.O_NONBLOCK)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(0) == []
    with pytest.raises(BlockingIOError):
        os.read(fd, 100)
    woken = []
    blocking = os.open(mounted.control("events"), os.O_RDONLY)
    threads = [threading.Thread(target=lambda: woken.append(
                   bool(poll.poll(20000)))),
               threading.Thread(target=lambda: woken.append(
                   bool(os.read(blocking, 65536))))]
    for t in threads:
        t.start()
    mounted.new_image()
    for t in threads:
        t.join(20)
    assert woken == [True, True]
    os.close(fd)
    os.close(blocking)


def test_slow_reader_of_events_is_told_what_it_lost(mounted):
    with Events(mounted) as events:
        image = mounted.new_image()
        for i in range(1200):
            put(image, "description", str(i))
        first = events.next()
        assert first["event"] == "lost" and first["lines"] > 100
        assert events.wait("set")["object"] == os.path.basename(image)


def test_blocked_reader_does_not_stop_the_unmount(mounted):
    p = subprocess.Popen(["cat", mounted.control("events")],
                         stdout=subprocess.DEVNULL)
    mounted.new_image()
    p.terminate()
    p.wait(10)
    mounted.unmount()


# ---- the tool ----

def test_tool_shows_the_tree(mounted):
    image = mounted.new_image()
    base = mounted.new_volume(image, size=1 << 20)
    leaf = mounted.new_layer(base)
    text = mounted.tool("ls", mounted.mnt, check=0).stdout
    for path in (image, base, leaf):
        assert os.path.basename(path) in text
    info = mounted.tool("info", leaf, check=0).stdout
    for word in ("qcow2", os.path.basename(base), "1048576", "legal"):
        assert word in info
    for argv in (["ls", mounted.mnt], ["info", leaf], ["info", mounted.mnt],
                 ["check", mounted.mnt], ["dump", mounted.source]):
        p = mounted.tool(argv[0], "--json", *argv[1:], check=0)
        json.loads(p.stdout)


def test_tool_creates_what_the_tree_creates(mounted):
    def create(*argv):
        return mounted.tool("create", *argv, check=0).stdout.strip()

    image = create("--description", "words", mounted.mnt)
    assert os.path.dirname(image) == mounted.images
    assert get(image, "description") == "words"
    base = create("--size", "1M", "--allocation", "preallocated", image)
    assert os.stat(base).st_size == 1 << 20
    name = new_uuid()
    leaf = create("--uuid", name, "--parent", os.path.basename(base), image)
    assert leaf == os.path.join(image, "volumes", name)
    assert get(leaf, "parent") == os.path.basename(base)
    for bad in (["--uuid", "x", mounted.mnt], ["--uuid", name, image],
                ["--format", "vmdk", image], ["--size", "-1", image],
                ["--size", "9E", image], ["--parent", new_uuid(), image],
                [mounted.base], [os.path.join(mounted.images, name)]):
        p = mounted.tool("create", *bad)
        assert p.returncode > 0 and p.stdout.strip(), bad
    assert len(os.listdir(mounted.images)) == 1
    assert len(os.listdir(os.path.join(image, "volumes"))) == 2


def test_dump_shows_the_records(mounted):
    volume = mounted.new_volume(description="find me")
    text = mounted.tool("dump", mounted.source, check=0).stdout
    assert os.path.basename(volume) in text and "find me" in text


def test_help_and_version(domain):
    text = domain.tool("--help", check=0).stdout
    for command in ("format", "mount", "unmount", "ls", "info", "create",
                    "check", "gc", "explain", "dump"):
        assert command in text
        assert domain.tool(command, "--help", check=0).stdout.strip()
    version = domain.tool("--version", check=0).stdout
    assert re.search(r"\d+\.\d+", version) and "passthrough" in version


def test_installed_program_finds_its_parts(workshop):
    """From a DESTDIR, by its own path, and by its links."""
    need_program("meson")
    dest = workshop.dir("dest")
    run("meson", "install", "-C", BUILD, "--no-rebuild", "--skip-subprojects",
        "--destdir", dest, check=0)
    found = {}
    for top, _, names in os.walk(dest):
        found.update({n: os.path.join(top, n) for n in names})
    assert {"ovstorfs", "mkfs.ovstorfs", "fsck.ovstorfs", "mount.ovstorfs",
            "mount.fuse.ovstorfs", "ovstorfs.8"} <= set(found)
    d = workshop.domain(formatted=False, exe=found["ovstorfs"])
    run(found["mkfs.ovstorfs"], d.source, check=0)
    d.mount()
    exe = os.readlink(f"/proc/{d.status()['server_pid']}/exe")
    assert exe.startswith(dest)
    d.new_layer(d.new_volume(size=1 << 20))
    d.unmount()
    run(found["fsck.ovstorfs"], d.source, check=0)
