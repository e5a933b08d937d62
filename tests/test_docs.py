# SPDX-License-Identifier: GPL-2.0-or-later
"""What the program offers is in its pages, and the pages are sound."""
import os
import re
import shutil

import pytest

from conftest import EXE, TOP, lacking, need_program, run
from test_includes import files, text_of

PAGES = ["ovstorfs.8", "mkfs.ovstorfs.8", "fsck.ovstorfs.8",
         "mount.ovstorfs.8", "ovstorfs.conf.5", "ovstorfs-format.7",
         "ovstorfs-xattr.7"]
OPTIONS = ["locks", "host_id", "gc_period", "trash_retention",
           "verb_timeout", "uid", "gid", "mode", "fault", "passthrough",
           "no_watchdog", "ro", "_netdev", "nofail"]
ATTRIBUTES = ["format", "allocation", "parent", "type", "legality",
              "capacity", "allocated", "generation", "description",
              "created", "wipe", "lease", "holders", "error", "leaf", "uuid",
              "name", "backend", "host_id", "warn_free", "critical_free"]
ERRNOS = ["EINVAL", "EEXIST", "ENOSPC", "EROFS", "EBUSY", "ENOTEMPTY",
          "ESTALE", "EPERM", "EUCLEAN", "EOPNOTSUPP", "EAGAIN", "ETIMEDOUT",
          "EINTR", "EIO"]


def page(name):
    path = os.path.join("man", name)
    assert os.path.exists(os.path.join(TOP, path)), f"{path} is missing"
    return text_of(path)


def words(name):
    """A page without its markup, so that mount\\-point is a word."""
    return page(name).replace("\\-", "-").replace("\\&", "").replace(
        "\\_", "_")


@pytest.mark.parametrize("name", PAGES)
def test_man_page_is_clean(name):
    page(name)
    path = os.path.join(TOP, "man", name)
    need_program("groff")
    p = run("groff", "-man", "-Tutf8", "-ww", "-b", "-z", path,
            env=dict(os.environ, LC_ALL="C.UTF-8"))
    assert (p.returncode, p.stdout) == (0, "")
    if shutil.which("mandoc"):
        p = run("mandoc", "-T", "lint", "-W", "warning", path)
        assert p.returncode == 0, p.stdout


@pytest.mark.parametrize("name", PAGES)
def test_man_page_says_what_it_is(name):
    text = page(name)
    title, section = name.rsplit(".", 1)
    assert re.search(rf"^\.(TH|Dt) \"?{re.escape(title)}\"? \"?{section}",
                     text.replace("\\-", "-"), re.M | re.I)
    assert re.search(r"^\.S[Hh] \"?NAME", text, re.M)


def test_every_command_has_its_place_in_a_page():
    text = words("ovstorfs.8")
    helped = run(EXE, "--help", check=0).stdout
    commands = re.findall(r"^\s+(?:ovstorfs )?([a-z]+)\b", helped, re.M)
    assert {"format", "mount", "unmount", "ls", "info", "create", "check",
            "gc", "explain", "dump"} <= set(commands), helped
    missing = [c for c in commands if c not in text]
    assert not missing, missing
    for command in set(commands) & {"format", "mount", "check"}:
        options = re.findall(r"(?<!\w)(--?[a-z][\w-]*)",
                             run(EXE, command, "--help", check=0).stdout)
        pages = text + words("mount.ovstorfs.8") + words("mkfs.ovstorfs.8") + \
            words("fsck.ovstorfs.8")
        missing = [o for o in options if o not in pages]
        assert not missing, f"{command}: {missing}"


def test_every_mount_option_has_its_place_in_a_page():
    text = words("mount.ovstorfs.8")
    table = text_of("fs/options.c")
    known = re.findall(r'^\t\{ "(\w+)", set_', table, re.M)
    assert set(OPTIONS) & set(known), "the table of options has moved"
    missing = [o for o in set(OPTIONS) | set(known) if o not in text]
    assert not missing, missing


def test_every_attribute_and_errno_has_its_place_in_a_page():
    text = words("ovstorfs-xattr.7")
    table = text_of("backend/domain/attr.c")
    known = re.findall(r'^\t\{ "(\w+)", \w+, (?:\w+) \},', table, re.M)
    assert set(ATTRIBUTES) & set(known), "the table of attributes has moved"
    missing = [a for a in set(ATTRIBUTES) | set(known) if a not in text]
    assert not missing, missing
    every = "".join(words(p) for p in PAGES)
    missing = [e for e in ERRNOS if e not in every]
    assert not missing, missing


def test_format_page_names_all_that_lies_on_storage():
    text = words("ovstorfs-format.7")
    for name in ("domain", "ids", "leases", "mailbox", "changes", ".meta",
                 ".lease", ".new", ".removed", ".dying", ".set", ".undo",
                 ".removing", "CRC32C", "OVSRING1"):
        assert name in text, name
    keys = re.findall(r'^\t\{ "(\w+)", (?:ALL|DOMAIN|IMAGE|VOLUME)',
                      text_of("backend/domain/meta.c"), re.M)
    assert len(keys) > 15
    missing = [k for k in keys if k not in text]
    assert not missing, missing


def test_example_of_the_readme_is_what_the_demo_does():
    readme, demo = text_of("README.md"), text_of("contrib/demo")
    commands = re.findall(r"^\s*\$ (.+)$", readme, re.M)
    commands = [c for c in commands if not c.startswith(("./", "git "))]
    assert len(commands) > 5
    missing = [c for c in commands if c.strip() not in demo]
    assert not missing, missing


def test_readme_has_its_two_commands():
    readme = text_of("README.md")
    for command in ("./contrib/demo", "./tests/run"):
        assert command in readme
        assert os.access(os.path.join(TOP, command), os.X_OK)


def test_links_in_the_readme_lead_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)\)", text_of("README.md")):
        assert os.path.exists(os.path.join(TOP, target)), target


def test_code_is_formatted():
    if not shutil.which("clang-format"):
        lacking("no clang-format")
    version = run("clang-format", "--version", check=0).stdout
    if int(re.search(r"version (\d+)", version)[1]) < 14:
        pytest.skip("clang-format is older than 14")
    paths = [os.path.join(TOP, p) for p in files(".c", ".h")]
    p = run("clang-format", "--dry-run", "-Werror", *paths)
    wrong = sorted(set(re.findall(r"^([^:\n]+):\d+", p.stdout, re.M)))
    assert p.returncode == 0, "\n".join(wrong)
