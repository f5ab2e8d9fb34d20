"""What the Makefile says of itself."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = re.findall(r"^([a-z0-9-]+):(?!=)", MAKEFILE, re.MULTILINE)


def test_what_is_no_file_is_phony() -> None:
    [phony] = re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)
    assert phony.split() == TARGETS


def test_help_lists_each_target_once_in_one_line_and_aligned() -> None:
    command = ["make", "--no-print-directory", "--directory", str(ROOT), "help"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    lines = [re.fullmatch(r"([a-z0-9-]+ +)(\S.{5,90})", line) for line in done.stdout.splitlines()]
    listed = [line[1] for line in lines if line]
    assert len(listed) == len(lines)
    assert [name.strip() for name in listed] == TARGETS
    assert len({len(name) for name in listed}) == 1


def test_quiet_steps_of_venv_are_told_before_they_begin() -> None:
    recipe = re.findall(r"^\$\(STAMP\): .*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)[0]
    lines = [line.strip() for line in recipe.splitlines()]
    quiet = [at for at, line in enumerate(lines) if "$(PIP)" in line or "-m venv" in line]
    assert len(quiet) == 3
    for at in quiet:
        assert re.fullmatch(
            r'@echo "(making|installing) .+, (a few seconds|about .+)"', lines[at - 1]
        )
    assert lines[-1].startswith('@echo "ready: source $(VENV)/bin/activate')
