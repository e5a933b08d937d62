# SPDX-License-Identifier: GPL-2.0-or-later
"""The floors of the house: includes go down, never up or sideways; each
foreign header has one home; files stay readable."""
import os
import re

from conftest import TOP, run

FLOORS = {"fs": 3, "backend/domain": 2, "backend/storage": 1,
          "backend/lease": 1, "backend/agent": 1, "backend/base": 0}
HOMES = {
    r"fuse.*\.h": ("fs/", "include/ovstorfs/fuse.h"),
    r"sanlock.*\.h": ("backend/lease/sanlock.c",),
    r"libdevmapper\.h": ("backend/storage/lvm/dm.c",),
    r"libvirt/.*": ("backend/agent/guest.c",),
    r"iniparser.*": ("backend/base/config.c",),
    r"linux/fuse\.h": ("fs/",),
}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
# A public header is the contract of the source of its name; these have none.
OWNERS = {"auto": "backend/base", "check": "backend/domain", "cmd": "fs",
          "fuse": "fs", "node": "fs", "set": "backend/domain",
          "model": "backend/domain"}


def files(*suffixes):
    listed = run("git", "-C", TOP, "ls-files", "--cached", "--others",
                 "--exclude-standard", check=0).stdout.splitlines()
    return [p for p in listed if p.endswith(suffixes) and
            not p.startswith("subprojects/") and
            os.path.exists(os.path.join(TOP, p))]


def text_of(path):
    with open(os.path.join(TOP, path), encoding="utf-8",
              errors="replace") as f:
        return f.read()


def floor_of(path):
    """(folder, height) of a source, or of a public header by its owner."""
    if path.startswith("include/ovstorfs/"):
        name = os.path.basename(path)[:-2]
        homes = [f for f in FLOORS if OWNERS.get(name) == f or
                 os.path.exists(os.path.join(TOP, f, name + ".c"))]
        assert len(homes) == 1, f"{path}: whose contract is it? {homes}"
        return homes[0], FLOORS[homes[0]]
    for folder, height in FLOORS.items():
        if path.startswith(folder + "/"):
            return folder, height
    return None, None


def sources():
    return [p for p in files(".c", ".h")
            if p.startswith(("fs/", "backend/", "include/"))]


def test_there_is_something_to_look_at():
    assert {floor_of(p)[0] for p in sources()} >= set(FLOORS)


def test_includes_go_down():
    wrong = []
    for path in sources():
        folder, height = floor_of(path) if path != "include/ovstorfs.h" else \
            ("include", -1)
        for kind, name in INCLUDE.findall(text_of(path)):
            if not name.startswith("ovstorfs/"):
                continue
            target, target_height = floor_of("include/" + name)
            if target_height > height or \
                    (target_height == height and target != folder):
                wrong.append(f"{path} ({folder}) includes {name} ({target})")
    assert not wrong, "\n".join(wrong)


def test_private_headers_stay_in_their_folder():
    wrong = []
    for path in sources():
        for kind, name in INCLUDE.findall(text_of(path)):
            if kind == '"' and ".." in name:
                wrong.append(f"{path}: {name}")
            if kind == '"' and "/" in name and not name.startswith(
                    "ovstorfs/"):
                inside = os.path.join(os.path.dirname(path), name)
                if not os.path.exists(os.path.join(TOP, inside)):
                    wrong.append(f"{path}: {name}")
    assert not wrong, "\n".join(wrong)


def test_foreign_headers_have_one_home():
    wrong = []
    for path in sources():
        for kind, name in INCLUDE.findall(text_of(path)):
            for pattern, homes in HOMES.items():
                if kind == "<" and re.fullmatch(pattern, name) and \
                        not path.startswith(homes):
                    wrong.append(f"{path} includes <{name}>")
    assert not wrong, "\n".join(wrong)


def test_every_file_says_its_licence():
    missing = []
    for path in files(".c", ".h", ".py", "meson.build", ".8", ".5", ".7",
                      ".sh", "tests/run", ".ci/run", "contrib/demo",
                      "contrib/setup"):
        head = text_of(path)[:300]
        licence = "MIT" if path == "include/ovstorfs.h" else \
            "GPL-2.0-or-later"
        if f"SPDX-License-Identifier: {licence}" not in head:
            missing.append(path)
    assert not missing, "\n".join(missing)


def test_no_file_is_too_long_to_read():
    long = {p: n for p in files(".c", ".h", ".py")
            if (n := text_of(p).count("\n")) >
            (800 if p.startswith("tests/") else 700)}
    assert not long, long


def test_domain_floor_has_no_word_of_the_floors_above_and_below():
    wrong = []
    for path in sources():
        if not path.startswith("backend/domain/"):
            continue
        code = re.sub(r"/\*.*?\*/", "", text_of(path), flags=re.S)
        for word in re.findall(r"\b(?:fuse|sanlk|sanlock|dm)_\w+", code):
            wrong.append(f"{path}: {word}")
    assert not wrong, "\n".join(wrong)


def test_text_ends_in_a_newline_and_has_no_trailing_blanks():
    wrong = []
    for path in files(".c", ".h", ".py", "meson.build"):
        text = text_of(path)
        if not text.endswith("\n") or re.search(r"[ \t]+$", text, re.M):
            wrong.append(path)
    assert not wrong, "\n".join(wrong)
