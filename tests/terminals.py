"""Commands that begin as a shell would have them begin: on a terminal of their own, or without a
descriptor.

What is to happen in the new process is the work of a small program that becomes the command. The
test's own process must not fork for it: gRPC's threads run there, and a fork among them may leave
the child standing still before it began, and streams of the parent's servers without their ends.
"""

import sys

_BECOMES = "os.execv(sys.argv[1], sys.argv[1:])"
ON_TERMINAL = (
    sys.executable,
    "-c",
    "import fcntl, os, signal, sys, termios; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); " + _BECOMES,
)
"""Standard input controls the session of the command behind it, so that Ctrl-C is a signal: once it
shows something, which is after it has taken the terminal."""


def without(descriptor: int) -> tuple[str, ...]:
    """The command behind it finds `descriptor` closed."""
    return (sys.executable, "-c", f"import os, sys; os.close({descriptor}); {_BECOMES}")
