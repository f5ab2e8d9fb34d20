"""What is wrong with a model is said in a line, before anything is loaded, with what to do."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from paceline.catalog import CATALOG, model_folder
from paceline.errors import FailedPrecondition, NotFound, PacelineError
from paceline.model_files.check import check_model
from tests.model_folders import model_folder_of, write_json, write_shards, write_weights

NAME = next(iter(CATALOG))
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:1\n"
Break = Callable[[Path], object]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PACELINE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def said(model: object, kind: type[PacelineError] = FailedPrecondition) -> str:
    """The message, which is one line."""
    with pytest.raises(kind) as caught:
        check_model(str(model))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_whole_folder_and_a_hub_id_pass(tmp_path: Path) -> None:
    folder = model_folder_of(tmp_path / "model")
    assert check_model(str(folder)) == folder
    assert check_model("model") == Path("model")
    for hub_id in ("owner/name", "owner/name@main", "Qwen/Qwen2.5-0.5B@refs/pr/3"):
        assert check_model(hub_id) is None


def test_shards_pass(tmp_path: Path) -> None:
    folder = model_folder_of(tmp_path / "model")
    write_shards(folder, 3)
    assert check_model(str(folder)) == folder


def test_no_torch_is_imported() -> None:
    code = (
        "import sys; from paceline.model_files.check import check_model; "
        "print({'torch', 'transformers', 'tokenizers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            "./nope",
            "'./nope' does not exist; give a folder, a .gguf file, a hub id of the form "
            f"owner/name, or one of {', '.join(CATALOG)}",
        ),
        ("/no/such/folder", "'/no/such/folder' does not exist: there is no folder /no/such"),
        ("a/b/c", "'a/b/c' does not exist: there is no folder a/b"),
        ("./modle", "'./modle' does not exist; did you mean model?"),
        ("modle.gguf", "'modle.gguf' does not exist; did you mean model.gguf?"),
        (
            "nope",
            "no model is called 'nope'; give a folder, a .gguf file, a hub id of the form "
            f"owner/name, or one of {', '.join(CATALOG)}",
        ),
        (
            NAME[:-1],
            f"no model is called '{NAME[:-1]}'; did you mean {NAME}? "
            "A hub id has the form owner/name",
        ),
        (
            "",
            f"no model is called ''; give a folder, a .gguf file, a hub id of the form "
            f"owner/name, or one of {', '.join(CATALOG)}",
        ),
    ],
)
def test_a_name_of_nothing(model: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model.gguf").touch()
    assert said(model, NotFound) == message


def test_a_model_that_was_not_pulled_is_told_with_where_it_would_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "empty"
    monkeypatch.setenv("PACELINE_HOME", str(home))
    pull = f"; run: paceline pull {NAME}"
    where = f"PACELINE_HOME is {home}"
    assert said(NAME, NotFound) == f"{NAME} is not here yet ({where}, which does not exist){pull}"
    home.mkdir()
    assert said(NAME, NotFound) == f"{NAME} is not here yet ({where}){pull}"
    monkeypatch.delenv("PACELINE_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    assert said(NAME, NotFound) == f"{NAME} is not here yet{pull}"


def write(name: str, content: str | bytes) -> Break:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def config(**fields: object) -> Break:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        write_json(path, {**json.loads(path.read_text()), **fields})

    return change


def without(*names: str) -> Break:
    def remove(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return remove


def instead(name: str, *, of: str = "config.json", content: str = "{}") -> Break:
    """A file in the place of another."""

    def swap(folder: Path) -> None:
        (folder / of).unlink()
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)

    return swap


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def cut_header(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:40])


def lengthen(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes() + b" ")


def lose_shards(folder: Path) -> None:
    for path in write_shards(folder, 4)[1:3]:
        path.unlink()


def lose_index(folder: Path) -> None:
    write_shards(folder, 3)[1].unlink()
    (folder / "model.safetensors.index.json").unlink()


def truncate_shard(folder: Path) -> None:
    path = write_shards(folder, 2)[1]
    path.write_bytes(path.read_bytes()[:-3])


def adapter(folder: Path) -> None:
    without("config.json", "model.safetensors")(folder)
    write_json(folder / "adapter_config.json", {"base_model_name_or_path": "us/base"})
    write_weights(folder / "adapter_model.safetensors")


def pipeline(folder: Path) -> None:
    model_folder_of(folder / "unet")
    without("config.json")(folder)


AGAIN = "fetch the file again"
PEFT = (
    'python -c "from peft import AutoPeftModelForCausalLM; AutoPeftModelForCausalLM.'
    "from_pretrained('{0}').merge_and_unload().save_pretrained('{0}-merged')\", "
    "then copy the tokenizer's files"
)
PICKLES = (
    "{0} has its weights in PyTorch's pickles only, which are not read; take a revision with "
    'safetensors, or convert it where you trust it: python -c "from transformers import '
    "AutoModelForCausalLM; AutoModelForCausalLM.from_pretrained('{0}').save_pretrained("
    "'model-safetensors')\", then copy the tokenizer's files"
)
INSTEAD = (
    "which is not read; take the model that it was made of, or a .gguf file (a draft is "
    "quantized while it is loaded: --weights int4 or int8)"
)
NO_WEIGHTS = "there is no model.safetensors and no model.safetensors.index.json"
BROKEN: dict[str, tuple[Break, str]] = {
    "no config": (
        without("config.json"),
        "{0} has no config.json, so it is no model folder; one has config.json, "
        "model.safetensors and tokenizer.json",
    ),
    "gguf in a folder": (
        instead("some.gguf"),
        "{0} has no config.json, but .gguf files; give one of them: some.gguf",
    ),
    "folders within": (
        pipeline,
        "{0} has no config.json, but its folders have; give one of them: unet",
    ),
    "diffusers": (
        instead("model_index.json"),
        "{0} holds a pipeline of diffusers, not a language model",
    ),
    "sentence-transformers": (
        instead("modules.json"),
        "{0} holds a model of embeddings; it generates no text",
    ),
    "makers' format": (
        instead("params.json"),
        "{0} has no config.json: it is in its makers' own format; fetch the files that "
        "transformers reads: one has config.json, model.safetensors and tokenizer.json",
    ),
    "adapter": (
        adapter,
        "{0} is a LoRA adapter of us/base, not a whole model; merge it first, with peft: " + PEFT,
    ),
    "config: empty": (
        write("config.json", " \n"),
        "{0}/config.json cannot be read: it is empty; " + AGAIN,
    ),
    "config: cut": (
        write("config.json", '{"model_type":'),
        "{0}/config.json cannot be read: invalid JSON: EOF while parsing a value at line 1 "
        "column 14; " + AGAIN,
    ),
    "config: comma": (
        write("config.json", '{"model_type": "llama",\n}'),
        "{0}/config.json cannot be read: invalid JSON: trailing comma at line 2 column 1; " + AGAIN,
    ),
    "config: no UTF-8": (
        write("config.json", b'{"a": "\xff"}'),
        "{0}/config.json cannot be read: invalid JSON: invalid unicode code point at line 1 "
        "column 8; " + AGAIN,
    ),
    "config: a list": (
        write("config.json", "[]"),
        "{0}/config.json cannot be read: it must hold an object",
    ),
    "config: LFS": (
        write("config.json", LFS),
        "{0}/config.json cannot be read: it is Git LFS's pointer to the file, not the file; "
        "run: git -C {0} lfs pull",
    ),
    "config: no type": (
        write("config.json", "{}"),
        "{0}/config.json cannot be read: model_type is missing",
    ),
    "config: type of model_type": (
        config(model_type=3),
        "{0}/config.json cannot be read: model_type is 3; it must be a text",
    ),
    "config: type of a size": (
        config(hidden_size="2"),
        "{0}/config.json cannot be read: hidden_size is '2'; it must be a whole number",
    ),
    "config: no layers": (
        config(num_hidden_layers=0),
        "{0}/config.json cannot be read: num_hidden_layers is 0; it must be at least 1",
    ),
    "config: end token": (
        config(eos_token_id="</s>"),  # noqa: S106  no secret
        "{0}/config.json cannot be read: eos_token_id is '</s>'; it must be a whole number",
    ),
    "generation_config: type": (
        write("generation_config.json", '{"eos_token_id": "</s>", "temperature": "hot"}'),
        "{0}/generation_config.json cannot be read: eos_token_id is '</s>'; it must be a whole "
        "number",
    ),
    "generation_config: cut": (
        write("generation_config.json", "{"),
        "{0}/generation_config.json cannot be read: invalid JSON: EOF while parsing an object "
        "at line 1 column 1; " + AGAIN,
    ),
    "tokenizer: empty": (
        write("tokenizer.json", ""),
        "{0}/tokenizer.json cannot be read: it is empty; " + AGAIN,
    ),
    "tokenizer: no model": (
        write("tokenizer.json", "{}"),
        "{0}/tokenizer.json cannot be read: model is missing",
    ),
    "tokenizer: LFS": (
        write("tokenizer.json", LFS),
        "{0}/tokenizer.json cannot be read: it is Git LFS's pointer to the file, not the file; "
        "run: git -C {0} lfs pull",
    ),
    "tokenizer_config: a list": (
        write("tokenizer_config.json", "[]"),
        "{0}/tokenizer_config.json cannot be read: it must hold an object",
    ),
    "special_tokens_map: a folder": (
        lambda folder: (folder / "special_tokens_map.json").mkdir(),
        "{0}/special_tokens_map.json cannot be read: it is a folder, not a file",
    ),
    "weights: none": (
        without("model.safetensors"),
        "{0} has no weights: " + NO_WEIGHTS + "; fetch them",
    ),
    "weights: of another name": (
        instead("consolidated.safetensors", of="model.safetensors"),
        "{0} has no weights: " + NO_WEIGHTS + " (consolidated.safetensors is no name that is "
        "read); fetch them",
    ),
    "weights: empty": (
        write("model.safetensors", ""),
        "{0}/model.safetensors is no safetensors file; fetch it again",
    ),
    "weights: LFS": (
        write("model.safetensors", LFS),
        "{0}/model.safetensors cannot be read: it is Git LFS's pointer to the file, not the "
        "file; run: git -C {0} lfs pull",
    ),
    "weights: a page": (
        write("model.safetensors", "<!doctype html><html>not found</html>"),
        "{0}/model.safetensors is no safetensors file; fetch it again",
    ),
    "weights: truncated": (
        truncate,
        "{0}/model.safetensors is truncated: it has 131 bytes of 132; fetch it again",
    ),
    "weights: header cut": (
        cut_header,
        "{0}/model.safetensors is truncated: it has 40 bytes of 128; fetch it again",
    ),
    "weights: damaged": (
        write("model.safetensors", (4).to_bytes(8, "little") + b'{"a"'),
        "{0}/model.safetensors has a damaged header; fetch it again",
    ),
    "weights: longer": (
        lengthen,
        "{0}/model.safetensors is longer than its header says: it has 133 bytes of 132; "
        "fetch it again",
    ),
    "shards: missing": (
        lose_shards,
        "{0} lacks weights that model.safetensors.index.json names: "
        "model-00002-of-00004.safetensors, model-00003-of-00004.safetensors; "
        "fetch what is missing",
    ),
    "shards: truncated": (
        truncate_shard,
        "{0}/model-00002-of-00002.safetensors is truncated: it has 125 bytes of 128; "
        "fetch it again",
    ),
    "shards: no index": (
        lose_index,
        "{0} lacks model-00002-of-00003.safetensors, model.safetensors.index.json; "
        "fetch what is missing",
    ),
    "shards: index of no map": (
        instead("model.safetensors.index.json", of="model.safetensors"),
        "{0}/model.safetensors.index.json cannot be read: weight_map is missing",
    ),
    "pickles": (instead("pytorch_model.bin", of="model.safetensors"), PICKLES),
    "pickles in shards": (
        instead("pytorch_model.bin.index.json", of="model.safetensors"),
        PICKLES,
    ),
    "TensorFlow": (
        instead("tf_model.h5", of="model.safetensors"),
        PICKLES.replace("PyTorch's pickles", "TensorFlow's format"),
    ),
    "GPTQ": (
        config(quantization_config={"quant_method": "gptq", "bits": 4}),
        "{0} is quantized with GPTQ in 4 bits, " + INSTEAD,
    ),
    "AWQ": (
        config(quantization_config={"quant_method": "awq", "w_bit": 4}),
        "{0} is quantized with AWQ in 4 bits, " + INSTEAD,
    ),
    "FP8": (
        config(quantization_config={"quant_method": "fp8"}),
        "{0} is quantized with FP8, " + INSTEAD,
    ),
    "bitsandbytes": (
        config(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}),
        "{0} is quantized with bitsandbytes, " + INSTEAD,
    ),
    "compressed-tensors": (
        config(quantization_config={"quant_method": "compressed-tensors"}),
        "{0} is quantized with 'compressed-tensors', " + INSTEAD,
    ),
    "encoder-decoder": (
        config(model_type="t5", architectures=["T5Model"], is_encoder_decoder=True),
        "{0} (T5Model) is an encoder-decoder; only decoders are served. docs/models.md has all",
    ),
    "classifier": (
        config(model_type="qwen2", architectures=["Qwen2ForSequenceClassification"]),
        "{0} (Qwen2ForSequenceClassification) predicts no tokens; take a model whose "
        "architecture ends in ForCausalLM. docs/models.md has all",
    ),
    "no decoder": (
        config(model_type="vit", architectures=["ViTModel"]),
        "{0} has model type 'vit', which is not served: transformers has no decoder of that "
        "name; nearest: llama, mistral, qwen2, qwen3, gemma3_text. docs/models.md has all",
    ),
    "a state for memory": (
        config(model_type="mamba", architectures=["MambaForCausalLM"]),
        "{0} has model type 'mamba', which is not served: linear_attention; nearest: llama, "
        "mistral, qwen2, qwen3, gemma3_text. docs/models.md has all",
    ),
    "a family with others that are served": (
        config(model_type="qwen3_next"),
        "{0} has model type 'qwen3_next', which is not served: linear_attention; nearest: "
        "qwen3, qwen3_moe. docs/models.md has all",
    ),
}


@pytest.mark.parametrize("case", ["GPTQ", "AWQ", "FP8", "bitsandbytes", "compressed-tensors"])
def test_quantized_weights_are_left_to_an_engine_that_reads_them(case: str, tmp_path: Path) -> None:
    folder = model_folder_of(tmp_path / "model")
    BROKEN[case][0](folder)
    with pytest.raises(FailedPrecondition, match="is quantized with"):
        check_model(str(folder))
    assert check_model(str(folder), any_weights=True) == folder


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_with_a_folder(case: str, tmp_path: Path) -> None:
    folder = model_folder_of(tmp_path / "model")
    spoil, message = BROKEN[case]
    spoil(folder)
    assert said(folder) == message.format(folder)


def test_an_embedder_with_a_config(tmp_path: Path) -> None:
    folder = model_folder_of(tmp_path, model_type="bert", architectures=["BertModel"])
    write_json(folder / "modules.json", [])
    assert said(folder) == (
        f"{folder} (BertModel) is a model of embeddings; it generates no text. "
        "docs/models.md has all"
    )


def test_layers_of_attention_alone_are_left_to_who_loads_them(tmp_path: Path) -> None:
    folder = model_folder_of(tmp_path, model_type="lfm3", layer_types=["full_attention"])
    assert check_model(str(folder)) == folder


def test_a_pulled_folder_that_is_damaged_says_how_to_pull_it_again() -> None:
    folder = model_folder_of(model_folder(NAME))
    assert check_model(NAME) == folder
    truncate(folder)
    assert said(NAME) == (
        f"{folder}/model.safetensors is truncated: it has 131 bytes of 132; fetch it again. "
        f"Delete {folder}, then run: paceline pull {NAME}"
    )


@pytest.mark.skipif("__import__('os').geteuid() == 0", reason="root may read all")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    folder = model_folder_of(tmp_path / "model")
    (folder / "config.json").chmod(0)
    assert said(folder) == f"{folder}/config.json cannot be read: Permission denied"
