# SPDX-License-Identifier: GPL-2.0-or-later
"""Each fuzzer for a few seconds, with a sanitizer where a build has one."""
import glob
import os

import pytest

from conftest import BUILD, LONG, QUICK, run

FUZZ = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fuzz")
SECONDS = 300 if LONG else 2 if QUICK else 5
NOT_FUZZERS = {"fuzz_driver", "fuzz_mutator"}


def names():
    return sorted({os.path.basename(p)[:-2] for p in
                   glob.glob(os.path.join(FUZZ, "fuzz_*.c"))} - NOT_FUZZERS)


@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("name", names())
def test_fuzz(name, tmp_path):
    build = os.environ.get("OVSTORFS_BUILD_ASAN", BUILD)
    program = os.path.join(build, "tests", name)
    assert os.path.exists(program), f"{program} is not built"
    with open(program, "rb") as f:
        has_libfuzzer = b"-max_total_time" in f.read()
    args = [f"-max_total_time={SECONDS}", "-max_len=4096"] \
        if has_libfuzzer else [str(SECONDS)]
    env = dict(os.environ,
               UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1")
    run(program, *args, timeout=SECONDS + 100, check=0, env=env, cwd=tmp_path)
