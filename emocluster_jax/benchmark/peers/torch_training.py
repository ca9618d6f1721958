"""Training steps and evaluation-mode forward passes in PyTorch; on a GPU with automatic mixed precision."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from emocluster_jax.benchmark.cases import Prepared
from emocluster_jax.benchmark.made_data import labelled_recordings
from emocluster_jax.benchmark.peers.torch_network import Network, make_network, wait_for

BLOCK = {"cpu": 176, "cuda": 2_048}
"""Chunks that go through the network at a time when no gradient is needed."""


def joint_steps(
    recordings: int, chunks: int, steps: int, width_multiplier: float, device: str, compiled: bool
) -> Prepared:
    """`steps` steps of `chunks` chunks drawn from a set that lies on the device."""
    network = make_network(width_multiplier, device)
    arrays, ratings = labelled_recordings(recordings, seed=0)
    data = torch.from_numpy(arrays.reshape(-1, *arrays.shape[2:])).to(device)
    targets = torch.from_numpy(np.repeat(ratings[:, :1] - 4, arrays.shape[1], axis=0)).to(device)
    rng = np.random.default_rng(0)
    pseudo_labels = torch.from_numpy(rng.integers(10, size=len(data))).to(device)
    batches = torch.from_numpy(rng.integers(len(data), size=(steps, chunks))).to(device)
    step = training_step(network, device, torch.compile(network) if compiled else network)

    def repeat() -> None:
        for batch in batches:
            step(data[batch].float(), pseudo_labels[batch], targets[batch])
        wait_for(device)

    repeat()
    return Prepared(repeat, steps)


def embedding(recordings: int, width_multiplier: float, device: str, compiled: bool) -> Prepared:
    """Embeddings of a set that lies on the device."""
    network = make_network(width_multiplier, device).eval()
    chunks, _ = labelled_recordings(recordings, seed=0)
    data = torch.from_numpy(chunks.reshape(-1, *chunks.shape[2:])).to(device)
    forward = torch.compile(network) if compiled else network

    def repeat() -> None:
        forward_all(forward, data, device)
        wait_for(device)

    repeat()
    return Prepared(repeat)


def training_step(
    network: Network, device: str, forward: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
) -> Callable[[Tensor, Tensor, Tensor], None]:
    """(chunks, pseudo-labels, targets) -> None: one update of the network by the summed optimisers of stage II.

    `forward` is the network, compiled or not.
    """
    head = list(network.cluster_head.parameters())
    body = [p for name, p in network.named_parameters() if not name.startswith("cluster_head")]
    optimizers = [torch.optim.SGD(body, 1e-3), torch.optim.Adam(body, 5e-4), torch.optim.SGD(head, 0.05)]

    def step(chunks: Tensor, pseudo_labels: Tensor, targets: Tensor) -> None:
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            _, logits, attributes = forward(chunks)
        loss = nn.functional.cross_entropy(logits.float(), pseudo_labels) + ccc_loss(attributes.float(), targets)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()

    return step


def forward_all(
    forward: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]], data: Tensor, device: str
) -> tuple[Tensor, Tensor]:
    """Embeddings and attributes of all chunks, block by block."""
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        outputs = [forward(block.float()) for block in data.split(BLOCK[device])]
    return torch.cat([o[0] for o in outputs]), torch.cat([o[2] for o in outputs])


def ccc_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """1 - concordance correlation coefficient over the batch."""
    mean, true_mean = predictions.mean(), targets.mean()
    covariance = ((predictions - mean) * (targets - true_mean)).mean()
    return 1 - 2 * covariance / (predictions.var() + targets.var() + (mean - true_mean) ** 2)
