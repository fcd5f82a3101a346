"""Writing the starter base: all of its files or none, in a folder that readers find complete."""

import json
import shutil
import tempfile
from pathlib import Path

from safetensors.torch import save_file
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from hub.errors import BaseError
from train.starter.corpus import SUGGESTED_PROMPTS


def write(out: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """All files or none: into a sibling folder, then one rename."""
    building = sibling(out)
    try:
        _write_files(building, model, tokenizer)
        building.chmod(0o755)  # mkdtemp's and safetensors' own modes shut out other users
        (building / "model.safetensors").chmod(0o644)
        building.replace(out)
    except OSError as error:
        raise unwritable(out, error) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def sibling(out: Path) -> Path:
    """A new folder beside `out`, on the same disk."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise unwritable(out, error) from error


def unwritable(out: Path, error: OSError) -> BaseError:
    return BaseError(
        f"the starter base cannot be written: {error.strerror}",
        where=str(out),
        hint="choose a folder that you may write to, on a disk with 20 MB free",
    )


def _write_files(folder: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    model.config.architectures = ["LlamaForCausalLM"]
    model.config.dtype = "float32"
    model.config.save_pretrained(folder)
    GenerationConfig(  # type: ignore[no-untyped-call]
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    ).save_pretrained(folder)
    # The output layer is the embedding; readers tie it again, as the configuration says.
    tensors = {
        name: tensor.contiguous()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(folder)
    suggestions = json.dumps({"prompts": list(SUGGESTED_PROMPTS)}, indent=2)
    (folder / "suggestions.json").write_text(suggestions + "\n", encoding="utf-8")
