# SPDX-License-Identifier: GPL-2.0-or-later
"""What all tests share: a domain of their own, its mount, its processes.

A test asks for `domain` (formatted, not mounted) or `mounted`. Each has its
own storage directory, mount point, session of processes and logs; a failed
test keeps them and shows the log of its mounts. Nothing is ended but what was
started here, by its pid. Where something hangs, a watchdog kills the mount, so
that callers stuck in the kernel get their error and the test its traceback.
"""
import ctypes
import errno
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from contextlib import contextmanager

import pytest

BACKENDS = ["file"]
TIMEOUT = 120  # seconds for one test
TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("OVSTORFS_BUILD", os.path.join(TOP, "build"))
EXE = os.path.join(BUILD, "fs", "ovstorfs")
QUICK = bool(os.environ.get("OVSTORFS_QUICK"))
LONG = bool(os.environ.get("OVSTORFS_LONG"))
XATTR = "user.ovstorfs."

MNT_FORCE, MNT_DETACH = 1, 2
libc = ctypes.CDLL(None, use_errno=True)


def new_uuid():
    return str(uuid.uuid4())


def get(path, key):
    """An attribute, without its prefix."""
    return os.getxattr(path, XATTR + key).decode()


def put(path, key, value):
    os.setxattr(path, XATTR + key,
                value if isinstance(value, bytes) else value.encode())


@contextmanager
def refused(*codes):
    """The block fails with one of these errnos."""
    names = "/".join(errno.errorcode[c] for c in codes)
    try:
        yield
    except OSError as e:
        got = errno.errorcode.get(e.errno, e.errno)
        assert e.errno in codes, f"{got} instead of {names}: {e}"
        return
    pytest.fail(f"not refused with {names}", pytrace=True)


def lacking(reason):
    """The machine lacks something: skipped in a quick run, else a failure,
    so that no full run passes without having looked."""
    if QUICK:
        pytest.skip(reason)
    pytest.fail(f"{reason} (contrib/setup installs it)", pytrace=False)


def need_program(*names):
    for name in names:
        if not shutil.which(name):
            lacking(f"no {name}")


def run(*argv, timeout=60, check=None, **kw):
    """Run to the end; check: the exit status that is expected."""
    p = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True, errors="replace", timeout=timeout, **kw)
    if check is not None:
        assert p.returncode == check, \
            f"{' '.join(p.args)}: exit {p.returncode}\n{p.stdout}"
    return p


def mount_line(path):
    """(source, type, options) of what is mounted on path, or None."""
    found = None
    with open("/proc/self/mounts") as f:
        for line in f:
            source, at, fstype, options = line.split()[:4]
            if at.encode().decode("unicode_escape") == path:
                found = source, fstype, options.split(",")
    return found


def detach(path):
    return libc.umount2(os.fsencode(path), MNT_DETACH) == 0


def abort(path):
    """End a FUSE mount whatever its processes do; callers that wait for it
    get an error."""
    libc.umount2(os.fsencode(path), MNT_FORCE)


def is_running(pid):
    """False also for a zombie that waits for a parent of its own."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_exit(pid, timeout=10):
    """Until a process, ours or not, is gone."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], timeout)[0], f"{pid} still runs"
    finally:
        os.close(fd)


def wait_until(condition, timeout=10, what="it"):
    """For states that offer no event to wait for."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.02)


class MountFailed(Exception):
    def __init__(self, code, text):
        super().__init__(f"mount: exit {code}\n{text}")
        self.code = code
        self.text = text


class Domain:
    """One storage domain and one mount of it, which may come and go."""

    def __init__(self, base, backend="file", exe=EXE, source=None, env=None):
        self.base = base
        self.backend = backend
        self.exe = exe
        self.env = dict(os.environ, **(env or {}))
        self.source = source or os.path.join(base, "storage")
        self.mnt = os.path.join(base, "mnt-" + new_uuid()[:8])
        self.log = self.mnt.replace("mnt-", "log-")
        self.process = None
        self.pids = set()
        os.makedirs(self.source, exist_ok=True)
        os.makedirs(self.mnt)

    # ---- the tool ----

    def tool(self, *argv, **kw):
        kw.setdefault("env", self.env)
        return run(self.exe, *argv, **kw)

    def format(self, *argv):
        return self.tool("format", *argv, self.source, check=0)

    def check(self, *argv, expect=0):
        return self.tool("check", *argv, self.source, check=expect).stdout

    def gc(self, expect=0):
        return self.tool("gc", self.mnt, check=expect).stdout

    # ---- mount and unmount ----

    def options(self, faults=(), **options):
        options.setdefault("locks", "local")
        # The collector runs when a test says so.
        options.setdefault("gc_period", 3600)
        words = [k if v is True else f"{k}={v}" for k, v in options.items()
                 if v is not None and v is not False]
        return ",".join(words + [f"fault={f}" for f in faults])

    def mount(self, faults=(), timeout=30, **options):
        """In the foreground, in a session of its own; returns when it
        answers. Raises MountFailed when it ends instead."""
        argv = [self.exe, "mount", self.source, self.mnt, "-f", "-o",
                self.options(faults, **options)]
        with open(self.log, "ab") as log:
            log.write(f"$ {' '.join(argv)}\n".encode())
            log.flush()
            start = log.tell()
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, env=self.env)
        if not self._wait_mounted(timeout, "locks=local" in argv[-1]):
            code = self.process.wait(10)
            self._forget()
            raise MountFailed(code, self.read_log(start))
        return self

    def _wait_mounted(self, timeout, local):
        """The mount table tells of each change by POLLPRI; a process, by its
        pidfd, when it ends."""
        pidfd = os.pidfd_open(self.process.pid)
        end = time.monotonic() + timeout
        try:
            with open("/proc/self/mountinfo") as table:
                poll = select.poll()
                poll.register(table, select.POLLPRI)
                poll.register(pidfd, select.POLLIN)
                while not mount_line(self.mnt):
                    left = end - time.monotonic()
                    assert left > 0, f"not mounted:\n{self.read_log()}"
                    events = poll.poll(left * 1000)
                    if any(fd == pidfd for fd, _ in events):
                        return False
            try:
                # Who looks is answered at once, who changes waits: locks of
                # one host take no time worth a test of its own.
                while self.status()["state"] == "joining" and local:
                    time.sleep(0.001)
            except OSError:
                # It died, or was told to, before it could answer.
                if not select.select([pidfd], [], [], 5)[0]:
                    raise
                return False
            return True
        finally:
            os.close(pidfd)

    def unmount(self, expect=0):
        """By the tool; returns when the processes are gone."""
        p = self.tool("unmount", self.mnt, check=expect)
        if expect == 0:
            assert not mount_line(self.mnt)
            if self.process:
                assert self.process.wait(10) == 0, self.read_log()
            self._forget()
        return p.stdout

    def remount(self, **options):
        self.unmount()
        return self.mount(**options)

    def kill_server(self):
        """kill -9, and wait until the keeper has ended too."""
        os.kill(self.status()["server_pid"], signal.SIGKILL)
        self.wait_dead()

    def wait_dead(self, timeout=10):
        """Until the mount has ended by itself; what stays of it in the mount
        table is taken away."""
        self.process.wait(timeout)
        for pid in self.pids:
            wait_exit(pid, timeout)
        self._forget()

    def _forget(self):
        self.process = None
        self.pids = set()
        while mount_line(self.mnt) and detach(self.mnt):
            pass

    def is_alive(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """End what was started, whatever state it is in."""
        if mount_line(self.mnt):
            abort(self.mnt)
        if self.process:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            for pid in self.pids:
                if is_running(pid) and os.getsid(pid) == self.process.pid:
                    os.kill(pid, signal.SIGKILL)

    def close(self):
        if self.process and self.is_alive() and mount_line(self.mnt):
            try:
                self.tool("unmount", self.mnt, timeout=20)
            except subprocess.TimeoutExpired:
                pass
        while mount_line(self.mnt) and detach(self.mnt):
            pass
        if self.process:
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()
                self.process.wait(10)
        self.process = None

    def read_log(self, start=0):
        try:
            with open(self.log, errors="replace") as f:
                f.seek(start)
                return f.read()
        except FileNotFoundError:
            return ""

    # ---- the tree ----

    def path(self, *names):
        return os.path.join(self.mnt, *names)

    @property
    def images(self):
        return self.path("images")

    @property
    def trash(self):
        return self.path("trash")

    def control(self, name):
        return self.path(".ovstorfs", name)

    def status(self):
        with open(self.control("status")) as f:
            status = json.load(f)
        self.pids |= {status["keeper_pid"], status["server_pid"]}
        return status

    def new_image(self, name=None):
        """The path of a new image."""
        path = os.path.join(self.images, name or new_uuid())
        os.mkdir(path)
        return path

    def new_volume(self, image=None, size=None, name=None, **attributes):
        """The path of a new volume; in a new image if none is given."""
        image = image or self.new_image()
        path = os.path.join(image, "volumes", name or new_uuid())
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o660))
        for key, value in attributes.items():
            put(path, key, value)
        if size is not None:
            os.truncate(path, size)
        return path

    def new_layer(self, parent):
        """A new volume over parent."""
        image = os.path.dirname(os.path.dirname(parent))
        return self.new_volume(image, parent=os.path.basename(parent))

    # ---- what lies on the storage ----

    def stored(self, path):
        """Where a file domain keeps an image or a volume of the mount."""
        names = os.path.relpath(path, self.images).split("/")
        return os.path.join(self.source, "images",
                            *[n for n in names if n != "volumes"])

    def leftovers(self):
        """Names on the storage that are no part of a domain at rest."""
        found = [n for n in os.listdir(self.source)
                 if n not in ("ovstorfs", "images", "lost+found")]
        own = {"domain", "ids", "leases", "mailbox", "changes"}
        found += set(os.listdir(os.path.join(self.source, "ovstorfs"))) - own
        images = os.path.join(self.source, "images")
        for image in os.listdir(images):
            found += self._image_leftovers(images, image)
        return found

    @staticmethod
    def _image_leftovers(images, image):
        if len(image) != 36:
            return [image]
        names = set(os.listdir(os.path.join(images, image)))
        volumes = {n for n in names if len(n) == 36}
        own = {"image"} | volumes
        own |= {v + end for v in volumes for end in (".meta", ".lease")}
        return [f"{image}/{n}" for n in names ^ own]


class Events:
    """A reader of a mount's events, from now on."""

    def __init__(self, d):
        self.fd = os.open(d.control("events"), os.O_RDONLY)
        self.lines = []
        self.names = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)

    def next(self, timeout=20):
        if not self.lines:
            poll = select.poll()
            poll.register(self.fd, select.POLLIN)
            assert poll.poll(timeout * 1000), f"no event after {self.names}"
            self.lines = os.read(self.fd, 65536).decode().splitlines()
        event = json.loads(self.lines.pop(0))
        self.names.append(event["event"])
        return event

    def wait(self, name, timeout=20):
        """The next one of this name."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            event = self.next(end - time.monotonic())
            if event["event"] == name:
                return event
        pytest.fail(f"no event {name}, but {self.names}")


class Workshop:
    """Makes domains and directories for one test, and ends them all."""

    def __init__(self):
        self.base = tempfile.mkdtemp(prefix="ovstorfs-test-")
        self.domains = []
        self.cleanups = []

    def domain(self, formatted=True, base=None, **kw):
        base = base or os.path.join(self.base, f"domain{len(self.domains)}")
        os.makedirs(base, exist_ok=True)
        d = Domain(base, **kw)
        self.domains.append(d)
        if formatted:
            d.format()
        return d

    def dir(self, name):
        path = os.path.join(self.base, name)
        os.makedirs(path, exist_ok=True)
        return path

    def later(self, call, *args):
        self.cleanups.append((call, args))

    def kill(self):
        for d in self.domains:
            d.kill()

    def close(self):
        for d in reversed(self.domains):
            d.close()
        for call, args in reversed(self.cleanups):
            call(*args)


def pytest_configure(config):
    if os.geteuid() != 0:
        pytest.exit("the tests mount: run them as root", 2)
    if not os.access(EXE, os.X_OK):
        pytest.exit(f"{EXE} is not built (tests/run builds it; OVSTORFS_BUILD "
                    "names another build)", 2)


def pytest_collection_modifyitems(items):
    for item in items:
        if not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(TIMEOUT))


@pytest.hookimpl(tryfirst=True, hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    shop = getattr(item, "workshop", None)
    if not shop or not report.failed:
        return
    item.keep = True
    for d in shop.domains:
        log = d.read_log()
        report.sections.append((f"log of {d.source}", log[-8000:]))
    report.sections.append(("kept", shop.base))


@pytest.fixture
def workshop(request):
    if not os.path.exists("/dev/fuse"):
        lacking("no /dev/fuse")
    shop = Workshop()
    request.node.workshop = shop
    marker = request.node.get_closest_marker("timeout")
    limit = (marker.args[0] if marker and marker.args else TIMEOUT) - 10
    # Callers that wait in the kernel hear no signal; they hear this.
    watchdog = threading.Timer(limit, shop.kill)
    watchdog.daemon = True
    watchdog.start()
    yield shop
    shop.close()
    watchdog.cancel()
    if not getattr(request.node, "keep", False):
        shutil.rmtree(shop.base, ignore_errors=True)


@pytest.fixture(params=BACKENDS)
def domain(request, workshop):
    """A formatted domain."""
    return workshop.domain(backend=request.param)


@pytest.fixture
def mounted(domain):
    """A domain, formatted and mounted."""
    return domain.mount()


@pytest.fixture
def loop(workshop):
    """loop(MiB): a small ext4 of its own, mounted."""
    need_program("losetup", "mkfs.ext4")
    if not os.path.exists("/dev/loop-control"):
        lacking("no loop devices")

    def make(megabytes, name="loop"):
        image = os.path.join(workshop.base, name + ".img")
        at = workshop.dir(name)
        with open(image, "wb") as f:
            f.truncate(megabytes << 20)
        run("mkfs.ext4", "-q", "-F", "-m", "0", image, check=0)
        p = run("mount", "-o", "loop", image, at)
        if p.returncode:
            lacking(f"no loop device to be had: {p.stdout}")
        workshop.later(detach, at)
        return at

    return make


