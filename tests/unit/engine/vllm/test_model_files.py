"""What names an adapter: what is in its files, not where they are."""

import shutil
from pathlib import Path

from paceline.engine.vllm.model_files import hash_adapter


def test_an_adapter_is_the_same_wherever_it_is_and_another_where_it_has_changed(
    tmp_path: Path,
) -> None:
    one, copy = tmp_path / "one", tmp_path / "copy"
    one.mkdir()
    (one / "adapter_config.json").write_text('{"r": 8}')
    (one / "adapter_model.safetensors").write_bytes(b"weights")
    shutil.copytree(one, copy)
    seen = [hash_adapter(""), hash_adapter(str(one))]
    assert hash_adapter(str(copy)) == seen[1]
    (copy / "adapter_config.json").write_text('{"r": 4}')
    seen.append(hash_adapter(str(copy)))
    (copy / "adapter_model.safetensors").write_bytes(b"others")
    seen.append(hash_adapter(str(copy)))
    assert len(set(seen)) == len(seen)
