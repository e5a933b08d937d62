# SPDX-License-Identifier: GPL-2.0-or-later
"""The unit tests in C, of the build and of those with sanitizers."""
import glob
import os

import pytest

from conftest import BUILD, QUICK, run

UNIT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "unit")
SLOW = {"test_lease_hosts"} # half a minute each time: once is enough


def names():
    return sorted(os.path.basename(p)[:-2]
                  for p in glob.glob(os.path.join(UNIT, "test_*.c")))


def builds():
    """Label and directory of each build there is."""
    found = [("plain", BUILD)]
    for kind in () if QUICK else ("asan", "tsan"):
        path = os.environ.get(f"OVSTORFS_BUILD_{kind.upper()}")
        if path:
            found.append((kind, path))
    return found


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("kind,build", builds(), ids=[b[0] for b in builds()])
def test_unit(kind, build, name):
    if kind != "plain" and name in SLOW:
        pytest.skip("once is enough")
    program = os.path.join(build, "tests", name)
    assert os.path.exists(program), f"{program} is not built: no cmocka?"
    env = dict(os.environ,
               UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1",
               TSAN_OPTIONS="halt_on_error=1")
    run(program, timeout=380, check=0, env=env)
