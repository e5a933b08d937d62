# SPDX-License-Identifier: GPL-2.0-or-later
"""qemu on the mount: formats, layers, and a guest that reads its disk."""
import fcntl
import json
import os
import struct
from errno import ENOTEMPTY, EROFS

import pytest

from conftest import get, need_program, put, refused, run

MIB = 1 << 20
F_OFD_SETLK = 37
GREETING = b"booted from an exposed path"


@pytest.fixture(autouse=True)
def qemu_tools():
    need_program("qemu-img", "qemu-io")


def qemu_io(volume, *commands, fmt="qcow2"):
    args = [a for c in commands for a in ("-c", c)]
    p = run("qemu-io", "-f", fmt, *args, volume)
    assert p.returncode == 0 and "verification failed" not in p.stdout, \
        p.stdout


def new_qcow2(d, size, image=None):
    volume = d.new_volume(image, format="qcow2")
    run("qemu-img", "create", "-q", "-f", "qcow2", volume, str(size), check=0)
    return volume


def three_layers(d):
    """Each layer writes a MiB of its own and one over its parent's."""
    base = new_qcow2(d, 64 * MIB)
    qemu_io(base, "write -P 1 0 3M")
    middle = d.new_layer(base)
    qemu_io(middle, "write -P 2 1M 2M")
    leaf = d.new_layer(middle)
    qemu_io(leaf, "write -P 3 2M 1M", "write -P 4 63M 1M")
    return base, middle, leaf


READ_BACK = ["read -P 1 0 1M", "read -P 2 1M 1M", "read -P 3 2M 1M",
             "read -P 0 3M 60M", "read -P 4 63M 1M"]


def test_qemu_img_makes_and_checks_a_qcow2_volume(mounted):
    volume = new_qcow2(mounted, 10 << 30)
    assert get(volume, "capacity") == str(10 << 30)
    assert int(get(volume, "allocated")) < 8 * MIB
    qemu_io(volume, "write -P 0x5a 0 1M", "write -P 0xa5 9G 1M")
    qemu_io(volume, "read -P 0x5a 0 1M", "read -P 0 1M 1M",
            "read -P 0xa5 9G 1M")
    run("qemu-img", "check", "-f", "qcow2", volume, check=0)
    run("qemu-img", "resize", "-f", "qcow2", volume, "11G", check=0)
    assert get(volume, "capacity") == str(11 << 30)
    mounted.remount()
    assert get(volume, "capacity") == str(11 << 30)
    qemu_io(volume, "read -P 0xa5 9G 1M")


def test_raw_volume_serves_qemu(mounted):
    volume = mounted.new_volume(size=16 * MIB)
    qemu_io(volume, "write -P 7 0 1M", "discard 0 64k", "write -z 512k 64k",
            fmt="raw")
    qemu_io(volume, "read -P 0 0 64k", "read -P 7 64k 448k",
            "read -P 0 512k 64k", fmt="raw")


def test_chain_reads_back_through_its_top(mounted):
    base, middle, leaf = three_layers(mounted)
    qemu_io(leaf, *READ_BACK)
    assert [get(v, "type") for v in (base, middle, leaf)] == \
        ["base", "internal", "leaf"]
    assert {get(v, "capacity") for v in (base, middle, leaf)} == \
        {str(64 * MIB)}
    mounted.remount()
    qemu_io(leaf, *READ_BACK)
    assert get(leaf, "parent") == os.path.basename(middle)
    assert get(middle, "parent") == os.path.basename(base)


def test_layer_names_its_parent_and_its_format_explicitly(mounted):
    base = mounted.new_volume(size=MIB)
    layer = mounted.new_layer(base)
    for volume, parent, fmt in ((layer, base, "raw"),
                                (mounted.new_layer(layer), layer, "qcow2")):
        info = json.loads(run("qemu-img", "info", "-f", "qcow2",
                              "--output=json", volume, check=0).stdout)
        assert info["backing-filename"] == os.path.basename(parent)
        assert info["backing-filename-format"] == fmt
        assert info["virtual-size"] == MIB


def test_parents_cannot_be_written(mounted):
    base, middle, leaf = three_layers(mounted)
    with open(leaf, "r+b"):
        for parent in (base, middle):
            for flags in (os.O_WRONLY, os.O_RDWR):
                with refused(EROFS):
                    os.open(parent, flags)
            with refused(ENOTEMPTY):
                os.unlink(parent)
            # The leaf's lease covers them.
            with open(parent, "rb") as f:
                assert f.read(4) == b"QFI\xfb"
    assert run("qemu-io", "-f", "qcow2", "-c", "write 0 1M",
               base).returncode != 0
    qemu_io(leaf, *READ_BACK)


def test_removing_the_top_gives_the_parent_back(mounted):
    base, middle, leaf = three_layers(mounted)
    os.unlink(leaf)
    qemu_io(middle, "read -P 2 2M 1M", "write -P 9 2M 1M")
    os.unlink(middle)
    qemu_io(base, "read -P 1 0 3M", "write -P 5 0 1M")
    again = mounted.new_layer(base)
    qemu_io(again, "read -P 5 0 1M", "read -P 1 1M 2M")


def test_odd_sized_parent_gets_a_layer_of_whole_sectors(mounted):
    base = mounted.new_volume()
    with open(base, "wb") as f:
        f.write(b"\x11" * 1000)
    layer = mounted.new_layer(base)
    assert get(layer, "capacity") == "1024"
    qemu_io(layer, "read -P 0x11 0 512")


def test_two_processes_may_not_both_write(mounted):
    """qemu's own locks work on the mount."""
    volume = new_qcow2(mounted, MIB)
    with open(volume, "r+b") as f:
        # The byte that says "I write", as another qemu would lock it.
        fcntl.fcntl(f.fileno(), F_OFD_SETLK,
                    struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 101, 1, 0))
        p = run("qemu-io", "-f", "qcow2", "-c", "write 0 512", volume)
        assert p.returncode != 0 and "lock" in p.stdout, p.stdout
    qemu_io(volume, "write 0 512")


def boot_sector():
    """16-bit code that prints GREETING on the first serial port."""
    code = bytes([
        0xFA,                    # cli
        0x31, 0xC0,              # xor ax, ax
        0x8E, 0xD8,              # mov ds, ax
        0xBE, 0x00, 0x7D,        # mov si, 0x7d00
        0xBA, 0xF8, 0x03,        # mov dx, 0x3f8
        0xAC,                    # next: lodsb
        0x84, 0xC0,              # test al, al
        0x74, 0x03,              # jz end
        0xEE,                    # out dx, al
        0xEB, 0xF8,              # jmp next
        0xB0, 0x31,              # end: mov al, 0x31
        0xE6, 0xF4,              # out 0xf4, al: ends qemu
        0xF4,                    # hlt
    ])
    text = GREETING + b"\r\n\0"
    sector = code.ljust(256, b"\0") + text
    return sector.ljust(510, b"\0") + b"\x55\xaa"


@pytest.mark.parametrize("layers", [0, 2])
def test_guest_boots_from_an_exposed_path(mounted, layers):
    need_program("qemu-system-x86_64")
    volume = mounted.new_volume(size=MIB)
    with open(volume, "r+b") as f:
        f.write(boot_sector())
    for _ in range(layers):
        volume = mounted.new_layer(volume)
    fmt = get(volume, "format")
    p = run("qemu-system-x86_64", "-machine", "pc,accel=tcg", "-m", "16",
            "-nodefaults", "-display", "none", "-no-reboot",
            "-serial", "stdio", "-device", "isa-debug-exit,iobase=0xf4",
            "-drive", f"file={volume},format={fmt},if=ide",
            timeout=90)
    assert GREETING.decode() in p.stdout, p.stdout
    assert p.returncode == 0x31 * 2 + 1
    os.unlink(volume)
    put(os.path.dirname(os.path.dirname(volume)), "description", "was used")
