# SPDX-License-Identifier: GPL-2.0-or-later
"""Attributes of the domain, of images and of volumes."""
import os
import re
from errno import (E2BIG, EBUSY, EINVAL, ENODATA, EOPNOTSUPP, EPERM, ERANGE,
                   EUCLEAN)

import pytest

from conftest import XATTR, get, new_uuid, put, refused, wait_until

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
SETTABLE = {
    "volume": {"format": "qcow2", "allocation": "preallocated",
               "legality": "illegal", "wipe": "discard",
               "description": "a volume"},
    "image": {"description": "an image"},
    "root": {"warn_free": "20%", "critical_free": "1073741824"},
}
READ_ONLY = {
    "volume": ["type", "capacity", "allocated", "generation", "created",
               "lease", "holders", "error"],
    "image": ["leaf", "error"],
    "root": ["uuid", "name", "format", "backend", "host_id"],
}


@pytest.fixture
def objects(domain):
    domain.mount()
    volume = domain.new_volume()
    return {"volume": volume, "root": domain.mnt,
            "image": os.path.dirname(os.path.dirname(volume))}


def attributes(path):
    """All but holders, which goes a moment after the last close."""
    return {k: get(path, k) for k in
            (n[len(XATTR):] for n in os.listxattr(path)) if k != "holders"}


def kinds(table):
    return [(kind, key) for kind in table for key in table[kind]]


def test_new_volume_has_its_attributes(objects):
    a = attributes(objects["volume"])
    assert TIME.match(a["created"])
    assert {k: a[k] for k in ("format", "allocation", "type", "legality",
                              "capacity", "allocated", "wipe")} == \
        {"format": "raw", "allocation": "sparse", "type": "leaf",
         "legality": "legal", "capacity": "0", "allocated": "0",
         "wipe": "zero"}
    assert a["generation"].isdigit()
    assert re.match(r"lockspace=[^,]+,key=[^,]+,path=/.+,offset=\d+$",
                    a["lease"])
    assert "parent" not in a and "error" not in a


def test_domain_has_its_attributes(workshop):
    d = workshop.domain(formatted=False)
    d.format("--name", "tank")
    d.mount(host_id=7)
    a = attributes(d.mnt)
    assert (a["name"], a["backend"], a["format"], a["host_id"],
            a["warn_free"], a["critical_free"]) == \
        ("tank", "file", "1", "7", "10%", "5%")
    assert a["uuid"] == d.status()["domain"]


def test_image_tells_its_leaves(mounted):
    image = mounted.new_image()
    assert "leaf" not in attributes(image)
    base = mounted.new_volume(image, size=4096)
    leaves = {mounted.new_layer(base), mounted.new_volume(image)}
    assert set(get(image, "leaf").split(" ")) == \
        {os.path.basename(v) for v in leaves}


def test_capacity_and_allocated_follow_the_bytes(mounted):
    volume = mounted.new_volume(size=10 << 20)
    assert get(volume, "capacity") == str(10 << 20)
    assert get(volume, "allocated") == "0"
    with open(volume, "r+b") as f:
        f.write(bytes([1]) * (1 << 20))
        os.fsync(f.fileno())
        assert int(get(volume, "allocated")) >= 1 << 20
        f.truncate(20 << 20)
        assert get(volume, "capacity") == str(20 << 20)


def test_open_volume_tells_its_holder(domain):
    domain.mount(host_id=9)
    volume = domain.new_volume()
    with open(volume, "r+b"):
        assert get(volume, "holders").split()[0] == "9"
    wait_until(lambda: XATTR + "holders" not in os.listxattr(volume),
               what="the release after the close")


@pytest.mark.parametrize("kind,key", kinds(SETTABLE))
def test_set_value_is_there_after_a_remount(domain, objects, kind, key):
    value = SETTABLE[kind][key]
    put(objects[kind], key, value)
    assert get(objects[kind], key) == value
    # The present value again, and by the flags of setxattr(2).
    put(objects[kind], key, value)
    os.setxattr(objects[kind], XATTR + key, value.encode(), os.XATTR_REPLACE)
    domain.remount()
    assert get(objects[kind], key) == value


@pytest.mark.parametrize("kind,key", kinds(READ_ONLY))
def test_read_only_attribute_is_refused(objects, kind, key):
    before = attributes(objects[kind])
    for value in ("x", before.get(key, "y")):
        with refused(EPERM):
            put(objects[kind], key, value)
    after = attributes(objects[kind])
    after.pop("error", None)
    before.pop("error", None)
    assert after == before


@pytest.mark.parametrize("kind", SETTABLE)
@pytest.mark.parametrize("key", ["unknown", "", "Format", "format ", "size",
                                 "a" * 200])
def test_unknown_attribute_is_refused(objects, kind, key):
    with refused(EOPNOTSUPP, EINVAL) if not key else refused(EOPNOTSUPP):
        put(objects[kind], key, "x")
    with refused(ENODATA, EOPNOTSUPP, EINVAL):
        get(objects[kind], key)


@pytest.mark.parametrize("name", [
    "user.other", "user.ovstorf", "trusted.ovstorfs.format",
    "security.selinux", "user.ovstorfsformat"])
def test_other_namespaces_are_refused(objects, name):
    for path in objects.values():
        with refused(EOPNOTSUPP):
            os.setxattr(path, name, b"x")
        with refused(ENODATA, EOPNOTSUPP):
            os.getxattr(path, name)
        assert all(k.startswith(XATTR) for k in os.listxattr(path))


@pytest.mark.parametrize("key,values", {
    "format": ["", "RAW", "vmdk", "raw ", "raw\n"],
    "allocation": ["", "thick", "Sparse"],
    "legality": ["", "maybe", "LEGAL"],
    "wipe": ["", "yes", "0"],
    "parent": ["", "x", new_uuid().upper(), new_uuid(), "0" * 36],
}.items())
def test_bad_value_changes_nothing(objects, key, values):
    volume = objects["volume"]
    before = attributes(volume)
    for value in values:
        with refused(EINVAL):
            put(volume, key, value)
    after = attributes(volume)
    assert after.pop("error")
    assert after == before


@pytest.mark.parametrize("value", ["", "-1", "101%", "10 %", "x", "%", "1.5%",
                                   str(1 << 63), str(1 << 64), "0x10"])
def test_bad_threshold_is_refused(objects, value):
    for key in ("warn_free", "critical_free"):
        before = get(objects["root"], key)
        with refused(EINVAL, ERANGE):
            put(objects["root"], key, value)
        assert get(objects["root"], key) == before


@pytest.mark.parametrize("value", [
    b"\xff\xfe", b"a\0b", b"\0", b"two\nlines", b"tab\there", b"\xc0\x80",
    b"\xed\xa0\x80", b"\x7f", b"cut \xe2\x82"], ids=ascii)
def test_binary_value_is_refused(objects, value):
    for kind in ("volume", "image"):
        put(objects[kind], "description", "before")
        with refused(EINVAL):
            put(objects[kind], "description", value)
        assert get(objects[kind], "description") == "before"


def test_longest_value_fits_and_a_longer_one_does_not(domain, objects):
    text = "ü" * 512
    for kind in ("volume", "image"):
        put(objects[kind], "description", text)
        for size in (1025, 4096, 65536):
            with refused(EINVAL):
                put(objects[kind], "description", "a" * size)
        with refused(E2BIG):
            put(objects[kind], "description", "a" * 65537)
    domain.remount()
    for kind in ("volume", "image"):
        assert get(objects[kind], "description") == text
    # A buffer that is too small is told so.
    assert len(os.getxattr(objects["volume"], XATTR + "description")) == 1024


def test_removing_a_description_is_an_empty_value(domain, objects):
    volume = objects["volume"]
    put(volume, "description", "words")
    put(volume, "description", "")
    domain.remount()
    assert "description" not in attributes(volume)


def test_format_and_allocation_are_set_while_empty(mounted):
    volume = mounted.new_volume(size=4096)
    for key, value in (("format", "qcow2"), ("allocation", "preallocated"),
                       ("parent", new_uuid())):
        with refused(EPERM, EINVAL, EBUSY):
            put(volume, key, value)
    put(volume, "format", "raw")
    os.truncate(volume, 0)
    put(volume, "format", "qcow2")
    assert get(volume, "format") == "qcow2"


def test_parent_is_set_once_and_to_a_fitting_volume(mounted):
    base = mounted.new_volume(size=1 << 20)
    image = os.path.dirname(os.path.dirname(base))
    foreign = mounted.new_volume(size=1 << 20)
    leaf = mounted.new_volume(image)
    name = os.path.basename
    for bad in (name(leaf), name(foreign), name(image), new_uuid()):
        with refused(EINVAL):
            put(leaf, "parent", bad)
    with open(base, "r+b"), refused(EBUSY):
        put(leaf, "parent", name(base))
    put(base, "legality", "illegal")
    with refused(EINVAL):
        put(leaf, "parent", name(base))
    put(base, "legality", "legal")
    put(leaf, "parent", name(base))
    put(leaf, "parent", name(base))
    other = mounted.new_volume(image, size=4096)
    with refused(EPERM):
        put(leaf, "parent", name(other))
    with refused(EINVAL, EPERM):
        put(mounted.new_volume(image), "parent", name(base))
    with refused(EPERM):
        put(base, "parent", name(leaf))


def test_illegal_volume_opens_for_who_made_it_so(domain):
    domain.mount()
    volume = domain.new_volume(size=4096)
    put(volume, "legality", "illegal")
    with open(volume, "r+b") as f:
        f.write(b"filled")
    domain.remount()
    for flags in (os.O_RDONLY, os.O_RDWR):
        with refused(EUCLEAN):
            os.open(volume, flags)
    put(volume, "legality", "legal")
    with open(volume, "rb") as f:
        assert f.read(6) == b"filled"


def test_attributes_cannot_be_removed(objects):
    with refused(EPERM, EINVAL, EOPNOTSUPP):
        os.removexattr(objects["volume"], XATTR + "format")
    with refused(ENODATA, EPERM, EOPNOTSUPP):
        os.removexattr(objects["volume"], "user.other")
    assert get(objects["volume"], "format") == "raw"


def crc32c(data):
    c = 0xFFFFFFFF
    for byte in data:
        c ^= byte
        for _ in range(8):
            c = c >> 1 ^ (0x82F63B78 if c & 1 else 0)
    return c ^ 0xFFFFFFFF


def test_unknown_keys_of_a_record_are_kept(domain, objects):
    """What a later version adds, this one writes back as it found it."""
    domain.unmount()
    records = [domain.stored(objects["volume"]) + ".meta",
               os.path.join(domain.stored(objects["image"]), "image")]
    for record in records:
        with open(record, "rb") as f:
            head, _, body = f.read().partition(b"\n")
        body += b"x_later=some thing = else\n"
        head = b" ".join(head.split(b" ")[:3]) + b" %08d " % len(body)
        with open(record, "wb") as f:
            f.write(head + b"%08x\n" % crc32c(head + body) + body)
    assert crc32c(b"123456789") == 0xE3069283
    domain.mount()
    for kind in ("volume", "image"):
        put(objects[kind], "description", "rewritten")
    domain.unmount()
    for record in records:
        with open(record, "rb") as f:
            text = f.read()
        assert b"\nx_later=some thing = else\n" in text
        assert b"rewritten" in text
    domain.check()
