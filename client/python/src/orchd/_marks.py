"""Words that a step's process and those who read of it have in common."""

FAILED = "orchd: the step failed: "  # before the traceback, in stderr
IN_STEP = "ORCHD_STEP_TARGET"  # set in a step's process: its file must not run a pipeline

# What a local step takes over from whoever submitted it; the server takes no others.
TAKEN_OVER = ("PATH", "HOME", "USER", "LANG", "TZ", "VIRTUAL_ENV")
NO_FORK = ("jax", "tensorflow", "torch", "ray", "pyspark")  # modules that do not survive a fork
ROOM = "ORCHD_ROOM"  # a variable of a worker, whose place its forks write their environment to
ROOM_BYTES = 1024
