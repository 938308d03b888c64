"""Waiting for a state that another process brings about."""
import time


def wait_for(what, predicate, seconds=600):
    """The first true answer; fails after `seconds`, which only a machine that is far too busy takes."""
    until = time.monotonic() + seconds
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() > until:
            raise AssertionError(f"waited {seconds} s for {what}")
        time.sleep(0.05)  # between two looks at a state
