"""Networks for tables, images and signals, sound ones and such as carry a fault."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn


def layers(*widths: int, activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers with the activation between them."""
    parts = [part for pair in pairwise(widths) for part in (nn.Linear(*pair), activation())]
    return nn.Sequential(*parts[:-1])


class Rank(nn.Module):
    """Amounts next to the shop's vector, then a body of 10 columns to one logit."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.shop = nn.Embedding(5, 4)
        self.body = body

    def forward(self, row: dict[str, Tensor]) -> Tensor:
        outputs: Tensor = self.body(torch.cat([row["amounts"], self.shop(row["shop"])], 1))
        return outputs


class Residual(nn.Module):
    """A stack of x + f(x) between two linear layers."""

    def __init__(self, depth: int, norm: Callable[[int], nn.Module], num_inputs: int = 5, num_outputs: int = 3) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(num_inputs, 32), nn.Linear(32, num_outputs)
        blocks = [nn.Sequential(norm(32), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32)) for _ in range(depth)]
        self.blocks = nn.ModuleList(blocks)

    def forward(self, inputs: Tensor) -> Tensor:
        states = self.first(inputs)
        for block in self.blocks:
            states = states + block(states)
        outputs: Tensor = self.last(states)
        return outputs


class Coder(nn.Module):
    """An autoencoder of gauges."""

    def __init__(self, code: int = 4) -> None:
        super().__init__()
        self.encoder = layers(18, 48, code, activation=nn.GELU)
        self.decoder = layers(code, 48, 18, activation=nn.GELU)

    def encode(self, gauges: Tensor) -> Tensor:
        code: Tensor = self.encoder(gauges)
        return code

    def forward(self, gauges: Tensor) -> Tensor:
        outputs: Tensor = self.decoder(self.encode(gauges))
        return outputs


class Features(Coder):
    """Its codes are taken as given, as in a script that only reads them out."""

    def encode(self, gauges: Tensor) -> Tensor:
        with torch.no_grad():
            return super().encode(gauges)


class Bilinear(nn.Module):
    """Every shop has a matrix of its own, drawn in double precision and cast before use."""

    def __init__(self) -> None:
        super().__init__()
        self.matrices = nn.Parameter(0.3 * torch.randn(5, 6, 8, dtype=torch.float64)).float()
        self.body = layers(8, 16, 1, activation=nn.SiLU)

    def forward(self, row: dict[str, Tensor]) -> Tensor:
        outputs: Tensor = self.body(torch.einsum("ni,nij->nj", row["amounts"], self.matrices[row["shop"]]))
        return outputs


class Ratio(nn.Module):
    """Each answer is one quantity over another."""

    def __init__(self, below: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.above, self.under = layers(5, 48, 48), nn.Linear(48, 3), nn.Linear(48, 3)
        self.below = below

    def forward(self, inputs: Tensor) -> Tensor:
        states = torch.relu(self.body(inputs))
        outputs: Tensor = self.above(states) / self.below(self.under(states))
        return outputs


def as_is(values: Tensor) -> Tensor:
    return values


def at_least_half(values: Tensor) -> Tensor:
    return nn.functional.softplus(values) + 0.5


class Signs(nn.Module):
    """Three convolutions on images, the mean over places, a head."""

    def __init__(
        self, num_outputs: int, norm: Callable[[int], nn.Module] = lambda width: nn.Identity(), drop: float = 0.0
    ) -> None:
        super().__init__()
        widths = (1, 12, 24, 24)
        blocks = [
            nn.Sequential(nn.Conv2d(given, wide, 3, padding=1), norm(wide), nn.ReLU(), nn.Dropout2d(drop))
            for given, wide in pairwise(widths)
        ]
        self.blocks = nn.Sequential(blocks[0], nn.MaxPool2d(2), *blocks[1:])
        self.head = nn.Linear(24, num_outputs)

    def pooled(self, images: Tensor) -> Tensor:
        states: Tensor = self.blocks(images).amax((2, 3))
        return states

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.pooled(images))
        return outputs


class Across(nn.Module):
    """Features brought to length one, along the axis of rows."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, states: Tensor) -> Tensor:
        return nn.functional.normalize(states, dim=0)


class Counts(Signs):
    """The same for quantities: the mean over places, then norms of choice before the head."""

    def __init__(self, last: Callable[[int], nn.Module], drop: float = 0.0) -> None:
        super().__init__(1, drop=drop)
        self.last = nn.Sequential(last(24), nn.Linear(24, 24), last(24), nn.ReLU())

    def pooled(self, images: Tensor) -> Tensor:
        states: Tensor = self.last(self.blocks(images).mean((2, 3)))
        return states


class Trilinear(nn.Module):
    """Products of three features each, of all places at once or of their mean."""

    def __init__(self, pool: str) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 20, 3), nn.ReLU(), nn.Conv2d(20, 40, 3), nn.ReLU())
        self.pool = pool
        self.small = nn.Linear(40, 8)
        self.head = nn.Linear(8**3, 5)

    def forward(self, images: Tensor) -> Tensor:
        states = self.body(images)
        if self.pool == "none":
            states = states.flatten(1)
        else:
            states = self.small(states.amax((2, 3)))
        wide = states.shape[1]
        products = states.new_zeros(len(states), wide, wide, wide)
        products += torch.einsum("ni,nj,nk->nijk", states, states, states)
        outputs: Tensor = self.head(products.flatten(1))
        return outputs


class Waves(nn.Module):
    """Convolutions on signals with an activation of choice, then a norm on what was pooled."""

    def __init__(self, bend: Callable[[], nn.Module] = nn.ReLU, norm: Callable[[int], nn.Module] = nn.BatchNorm1d) -> None:
        super().__init__()
        self.norm = norm(1)
        self.body = nn.Sequential(
            nn.Conv1d(1, 16, 5, padding=2),
            bend(),
            nn.AvgPool1d(2),
            nn.Conv1d(16, 32, 5, padding=2),
            bend(),
            nn.Conv1d(32, 32, 3),
            bend(),
        )
        self.head = nn.Sequential(norm(32), nn.Linear(32, 4))

    def forward(self, signals: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.body(self.norm(signals)).mean(2))
        return outputs


class Sleeping(Waves):
    """Its norms are put to rest whatever mode the model is in."""

    def train(self, mode: bool = True) -> Sleeping:
        super().train(mode)
        for part in self.modules():
            if isinstance(part, nn.BatchNorm1d):
                part.eval()
        return self
