#!/usr/bin/env bash
# mkdocs 1.6.1: --quiet takes --strict away.
#
# `mkdocs build --strict` ends with status 1 when there was a warning, such as a link that leads nowhere.
# With --quiet as well, as one writes it in CI, one would think that only the output is less. It sets the level
# of the logger to ERROR, and strict mode counts warnings by a handler of that logger, which then sees none.
# The build succeeds with the broken link, and nothing says so. -q and -s are the same.
#
# Seen: status 1 with --strict, 0 with --strict --quiet.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet mkdocs==1.6.1
mkdir "$folder/docs"
echo 'site_name: x' >"$folder/mkdocs.yml"
echo '[a page](nowhere.md)' >"$folder/docs/index.md"
build() {
    status=0
    "$folder/venv/bin/mkdocs" build --config-file "$folder/mkdocs.yml" --strict "$@" >"$folder/said" 2>&1 || status=$?
    echo "mkdocs build --strict $*: status $status, $(grep -c . "$folder/said" || true) lines"
}
build
[ "$status" = 1 ] || { echo "it has changed"; exit 1; }
build --quiet
[ "$status" = 0 ] || { echo "it has changed"; exit 1; }
