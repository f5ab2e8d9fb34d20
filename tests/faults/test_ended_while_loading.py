"""A server that is told to stop while it loads its model stops, and leaves nothing half written."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

WAIT_SECONDS = 60

LOADING = """
import sys, time
from pathlib import Path
from paceline.engine_server.process import run_engine_process
from paceline.temporary_folders import scratch_folder
from target_server.settings import TargetSettings

def start(settings, registry):
    with scratch_folder(Path(settings.model)) as folder:
        (folder / "half").write_text("written")
        print("in the middle", flush=True)
        time.sleep(1e6)

flags = [f"--model={sys.argv[1]}", "--port=0", "--health-port=0", "--metrics-port=0"]
settings = TargetSettings(_cli_parse_args=flags, host="127.0.0.1")
run_engine_process(settings, (), start, lambda *_: None)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_while_loading_is_not_waited_for(
    tmp_path: Path, number: signal.Signals, times: int
) -> None:
    command = [sys.executable, "-c", LOADING, str(tmp_path / "models" / "big")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            assert json.loads(process.stderr.readline())["text"] == "in the middle"
            assert len(list((tmp_path / "models").iterdir())) == 1
            for _ in range(times):
                process.send_signal(number)
            _, errors = process.communicate(timeout=WAIT_SECONDS)
        finally:
            process.kill()
    assert process.returncode == 0, errors.decode()
    assert b"stopped while loading" in errors
    assert list((tmp_path / "models").iterdir()) == []
