"""Adapters to the PEFT library and back, with the same outputs; run it where `peft` is installed.

`python -m benchmarks.peft_adapters FOLDER` also writes what the tests compare with, made by PEFT itself.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from stepwell.core.randomness import Rng
from stepwell.recipe.adapters import load_adapter, merge_adapter, save_adapter
from stepwell.techniques import Lora

TARGETS = ["emb", "conv", "line", "fc"]


class Mixed(nn.Module):
    """An embedding, two convolutions, a linear layer and a head, as small as they can be."""

    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(7, 6)
        self.conv = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.line = nn.Conv1d(4, 3, 2)
        self.fc = nn.Linear(27, 5)
        self.head = nn.Linear(5, 2)

    def forward(self, ids: Tensor, pixels: Tensor) -> Tensor:
        seen = self.line(self.conv(pixels).flatten(2)[:, :, :4]).flatten(1)
        outputs: Tensor = self.head(torch.tanh(self.fc(torch.cat([self.emb(ids).flatten(1), seen], 1))))
        return outputs


def inputs() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.randint(0, 7, (4, 3), generator=draw), torch.randn(4, 1, 6, 6, generator=draw)


def base() -> Mixed:
    torch.manual_seed(0)
    return Mixed().eval()


def disturb_(model: nn.Module) -> None:
    """Numbers as after training: B is 0 at the start, and would hide everything."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.3)


def difference(one: Tensor, other: Tensor) -> float:
    return (one - other).abs().max().item()


def made_by_peft(folder: Path) -> Tensor:
    """Adapters that PEFT made and saved, and what its model says about `inputs()`."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=3, lora_alpha=5, lora_dropout=0.05, target_modules=TARGETS, modules_to_save=["head"])
    model = get_peft_model(base(), config).eval()
    disturb_(model)
    model.save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)
    with torch.no_grad():
        outputs: Tensor = model(*inputs())
    return outputs


@torch.no_grad()
def main(keep: Path | None) -> None:
    from peft import PeftModel

    folder = Path(tempfile.mkdtemp())
    ours = Lora(rank=2, alpha=8.0, targets=TARGETS)(base(), Rng(1)).eval()
    disturb_(ours)
    save_adapter(ours, folder)
    theirs = PeftModel.from_pretrained(base(), str(folder)).eval()
    print(f"ours in PEFT: outputs differ by {difference(ours(*inputs()), theirs(*inputs())):.2g}")
    print(f"    merged there: {difference(ours(*inputs()), theirs.merge_and_unload()(*inputs())):.2g}")
    print(f"    merged here:  {difference(theirs(*inputs()), merge_adapter(ours)(*inputs())):.2g}")

    folder = keep or Path(tempfile.mkdtemp())
    outputs = made_by_peft(folder)
    loaded = load_adapter(base(), folder).eval()
    print(f"PEFT's here: outputs differ by {difference(outputs, loaded(*inputs())):.2g}")
    if keep is not None:
        ids, pixels = inputs()
        save_file({"ids": ids, "pixels": pixels, "outputs": outputs}, keep / "expected.safetensors")
        save_file(base().state_dict(), keep / "base.safetensors")
        print(f"kept in {keep}: {sorted(load_file(keep / 'adapter_model.safetensors'))}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
