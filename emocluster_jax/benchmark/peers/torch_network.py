"""The same network in PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTHS = (32, 32, 64, 64, 128, 128, 128)
STRIDES = (1, 1, 2, 2, 2, 2, 2)


class Network(nn.Module):
    """From chunks (n, time, mel) to embeddings, the clusters' logits and the predicted attribute."""

    def __init__(self, width_multiplier: float = 1.0, clusters: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for width, stride in zip(WIDTHS, STRIDES, strict=True):
            width = max(4, round(width * width_multiplier))
            layers += [nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        dense = max(4, round(256 * width_multiplier))
        self.convolutions = nn.Sequential(*layers)
        self.shared = nn.Sequential(nn.Linear(8 * channels, dense), nn.ReLU(), nn.Dropout(0.5))
        self.cluster_hidden = nn.Linear(dense, dense)
        self.cluster_head = nn.Linear(dense, clusters)
        self.regressor = nn.Sequential(nn.Linear(dense, dense), nn.ReLU(), nn.Linear(dense, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, (2 / (9 * module.out_channels)) ** 0.5)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
                nn.init.zeros_(module.bias)

    def forward(self, chunks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shared = self.shared(self.convolutions(chunks.unsqueeze(1)).flatten(1))
        embeddings = self.cluster_hidden(shared)
        return embeddings, self.cluster_head(embeddings.relu()), self.regressor(shared)


def make_network(width_multiplier: float, device: str) -> Network:
    """A freshly drawn network; on a GPU in the memory format that its convolutions prefer."""
    torch.manual_seed(0)
    network = Network(width_multiplier).to(device)
    return network.to(memory_format=torch.channels_last) if device == "cuda" else network  # type: ignore[call-overload]


def wait_for(device: str) -> None:
    """Waits until the device has finished."""
    if device == "cuda":
        torch.cuda.synchronize()
