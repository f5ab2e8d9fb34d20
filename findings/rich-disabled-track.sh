#!/usr/bin/env bash
# rich 15.0.0 (CPython 3.11): Progress(disable=True) stops counting what it tracks.
#
# A disabled Progress shows nothing, and its tasks still count: advance() and update() go on as ever. One
# would think that track() does too. It does for the first update_period, 0.1 s, and then never again: the
# thread that counts for it runs while the live display has been started, and a disabled one never is. So a
# program that reads task.completed or task.finished, to log progress where there is no terminal, sees a
# number from the first tenth of a second for ever; after the loop is over, too. With auto_refresh=False
# there is no such thread, and all is counted.
#
# Seen, of 20 steps of 0.02 s: enabled 20; disabled 4 or 5, unfinished; disabled with auto_refresh=False 20.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet rich==15.0.0
cat >"$folder/track.py" <<'PY'
import io
import time

from rich.console import Console
from rich.progress import Progress

STEPS = 20


def counted(**options: bool) -> float:
    console = Console(file=io.StringIO())
    with Progress(console=console, **options) as progress:
        for _ in progress.track(range(STEPS)):
            time.sleep(0.02)
        return progress.tasks[0].completed


enabled, disabled = counted(), counted(disable=True)
by_hand = counted(disable=True, auto_refresh=False)
print(f"enabled {enabled:g}, disabled {disabled:g}, without auto_refresh {by_hand:g} of {STEPS}")
assert enabled == by_hand == STEPS
assert disabled < STEPS
PY
"$folder/venv/bin/python" "$folder/track.py"
