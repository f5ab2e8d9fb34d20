"""What the base install has is enough to start all programs: extras are looked for when needed."""

import subprocess
import sys

PROGRAM = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in OF_EXTRAS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

OF_EXTRAS = set(sys.argv[1:])
sys.meta_path.insert(0, Missing())
import draft_server.__main__, orchestrator.__main__, target_server.__main__
import paceline.client, paceline_tools.cli.app, paceline_tools.cli.doctor
"""
OF_EXTRAS = (
    *("torch", "transformers", "safetensors", "accelerate", "gguf", "huggingface_hub"),
    *("sentencepiece", "openvino", "vllm", "opentelemetry", "smg", "openai"),
)


def test_programs_start_without_what_only_extras_have() -> None:
    command = [sys.executable, "-c", PROGRAM, *OF_EXTRAS]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
