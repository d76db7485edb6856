"""Simulate many sessions at random, and say how it goes on stdout."""

from __future__ import annotations

import argparse
import sys
import time

from tests.support.simulation.seeds import run_seed


def main() -> int:
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="of the first; those of the others follow it")
    parser.add_argument("--keep-going", action="store_true", help="go on after one that is wrong")
    options = parser.parse_args()
    began, wrong = time.monotonic(), 0
    for done in range(1, options.count + 1):
        try:
            run_seed(options.seed + done - 1)
        except AssertionError as error:
            wrong += 1
            print(error, flush=True)
            if not options.keep_going:
                return 1
        if done % 10_000 == 0 or done == options.count:
            print(f"{done} sequences, {wrong} wrong, {time.monotonic() - began:.0f} s", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
