"""Compiles all C that there is, for images, which have no compiler and may have nowhere to write.

python -m paceline.engine.compile_ahead [FOLDER]. What a library needs of a CPU is asked where it
runs, so the CPU that it is compiled on does not matter.
"""

import argparse
from pathlib import Path

from paceline.engine.compiled import library as step
from paceline.engine.compiling import AHEAD, WRITTEN_FOR, Source, compile_into, this_machine
from paceline.engine.torch.native import library as native
from paceline.errors import FailedPrecondition

SOURCES: tuple[Source, ...] = tuple(form.compiled_from for form in (*step.FORMS, *native.ALL))


def main() -> None:
    """Run it; where one cannot be compiled, it ends with the reason."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=AHEAD)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)  # an image gets it, empty or not
    if this_machine() != WRITTEN_FOR:
        print(f"nothing to compile: all C is for {WRITTEN_FOR}, and this is {this_machine()}")  # noqa: T201
        return
    try:
        for source in SOURCES:
            print(compile_into(folder, *source))  # noqa: T201  for who builds an image
    except FailedPrecondition as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
