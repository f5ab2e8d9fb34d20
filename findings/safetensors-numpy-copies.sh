#!/usr/bin/env bash
# safetensors 0.8.0 with numpy 2.3.5: safe_open maps the file, but for numpy each tensor is a copy in
# memory of its own. get_tensor of 256 MB takes 256 MB that no other process shares and the system
# cannot drop; a view of numpy's own memmap at the place that the header names takes next to none, and
# stays next to none while one row is read. The copy is there before anything is read, and may be
# written to. Who serves from embeddings of which a step reads some rows had better map them.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet safetensors==0.8.0 numpy==2.3.5
cat > "$work/try.py" <<'PY'
import json
import sys

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

MB = 1_000_000
path = sys.argv[1]


def own() -> int:
    """Megabytes of this process that lie in no file."""
    with open("/proc/self/smaps_rollup") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) // 1000


if len(sys.argv) > 2:
    save_file({"embeddings": np.ones((128_000, 1000), np.uint16)}, path)
    sys.exit()
before = own()
with safe_open(path, "numpy") as opened:
    opened_takes = own() - before
    tensor = opened.get_tensor("embeddings")
copied = own() - before
whole = copied * MB > 0.9 * tensor.nbytes
print(f"safe_open takes {opened_takes // 10 * 10} MB, get_tensor as many as it has: {whole}")
print("the tensor may be written to:", tensor.flags.writeable)
before = own()
contents = np.memmap(path, np.uint8, "r")
start = 8 + int.from_bytes(contents[:8].tobytes(), "little")
begin, end = json.loads(contents[8:start].tobytes())["embeddings"]["data_offsets"]
mapped = contents[start + begin : start + end].view(np.uint16).reshape(128_000, 1000)
equal = bool((mapped[77_777] == tensor[77_777]).all())
print(f"a memmap of it takes {(own() - before) // 10 * 10} MB, and its rows are equal: {equal}")
PY
"$work/venv/bin/python" "$work/try.py" "$work/file" write
found=$("$work/venv/bin/python" "$work/try.py" "$work/file")
echo "$found"
diff <(echo "$found") - <<'SEEN'
safe_open takes 0 MB, get_tensor as many as it has: True
the tensor may be written to: True
a memmap of it takes 0 MB, and its rows are equal: True
SEEN
