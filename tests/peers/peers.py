# SPDX-License-Identifier: Apache-2.0
"""What the check_*.py scripts share: a decorator that runs a check and reports it."""

import sys
import traceback

PHOTOS, GOLDEN = sys.argv[1:3]


def check(function):
    """Run @function at once; its first line of doc is its name."""
    name = function.__doc__.splitlines()[0]
    try:
        function()
        print(f"ok {name}", flush=True)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        why = str(error) or f"line {where.lineno}: {where.line}"
        print(f"FAIL {name}: {type(error).__name__}: {why}", flush=True)
    return function
