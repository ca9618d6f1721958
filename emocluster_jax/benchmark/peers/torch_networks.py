"""The same network in PyTorch: training steps, embedding, and whole epochs; on a GPU with automatic mixed precision."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from emocluster_jax.benchmark.cases import Prepared
from emocluster_jax.benchmark.made_data import labelled_recordings
from emocluster_jax.benchmark.peers.kmeans_libraries import faiss_clusters
from emocluster_jax.clustering.sampling import balanced_indices
from emocluster_jax.evaluation.metrics import ccc

WIDTHS = (32, 32, 64, 64, 128, 128, 128)
STRIDES = (1, 1, 2, 2, 2, 2, 2)
CHUNKS = 11
"""Per recording."""
BLOCK = {"cpu": 176, "cuda": 2_048}
"""Chunks that go through the network at a time when no gradient is needed."""

Forward = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
"""A network, compiled or not."""


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
    if device == "cuda":
        torch.cuda.synchronize()


def labelled_chunks(recordings: int, seed: int, device: str) -> tuple[Tensor, np.ndarray]:
    """Noise (recordings * 11, time, mel) on the device, and the recordings' ratings (recordings, 1)."""
    chunks, ratings = labelled_recordings(recordings, seed)
    return torch.from_numpy(chunks.reshape(-1, *chunks.shape[2:])).to(device), ratings[:, :1]


def joint_steps(
    recordings: int, chunks: int, steps: int, width_multiplier: float, device: str, compiled: bool
) -> Prepared:
    """`steps` steps of `chunks` chunks drawn from a set that lies on the device."""
    network = make_network(width_multiplier, device)
    data, ratings = labelled_chunks(recordings, 0, device)
    targets = torch.from_numpy(np.repeat(ratings - 4, CHUNKS, axis=0)).to(device)
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
    data, _ = labelled_chunks(recordings, 0, device)
    forward = torch.compile(network) if compiled else network

    def repeat() -> None:
        forward_all(forward, data, device)
        wait_for(device)

    repeat()
    return Prepared(repeat)


def training_step(network: Network, device: str, forward: Forward) -> Callable[[Tensor, Tensor, Tensor], None]:
    """(chunks, pseudo-labels, targets) -> None: one update of the network by the summed optimisers of stage II."""
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


def forward_all(forward: Forward, data: Tensor, device: str) -> tuple[Tensor, Tensor]:
    """Embeddings and attributes of all chunks, block by block."""
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        outputs = [forward(block.float()) for block in data.split(BLOCK[device])]
    return torch.cat([o[0] for o in outputs]), torch.cat([o[2] for o in outputs])


def ccc_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """1 - concordance correlation coefficient over the batch."""
    mean, true_mean = predictions.mean(), targets.mean()
    covariance = ((predictions - mean) * (targets - true_mean)).mean()
    return 1 - 2 * covariance / (predictions.var() + targets.var() + (mean - true_mean) ** 2)


def epochs(train: int, validation: int, batch_size: int, width_multiplier: float, device: str) -> Prepared:
    """A supervised epoch per repetition: embed, cluster, draw balanced batches, take the steps, validate, save.

    The network goes on learning from each to the next.
    """
    network = make_network(width_multiplier, device)
    data, ratings = labelled_chunks(train, 0, device)
    held_out_data, true_ratings = labelled_chunks(validation, 1, device)
    mean, std = ratings.mean(), ratings.std()
    targets = torch.from_numpy(np.repeat((ratings - mean) / std, CHUNKS, axis=0)).to(device)
    rng = np.random.default_rng(0)
    step = training_step(network, device, network)

    def repeat() -> dict[str, float]:
        network.eval()
        embeddings, _ = forward_all(network, data, device)
        points = embeddings.float().cpu().numpy()
        _, assignments = faiss_clusters(points, clusters=10, iterations=20, seed=int(rng.integers(2**31)))
        nn.init.normal_(network.cluster_head.weight, 0, 0.01)
        nn.init.zeros_(network.cluster_head.bias)
        pseudo_labels = torch.from_numpy(assignments).to(device)
        network.train()
        for batch in torch.from_numpy(balanced_indices(assignments, batch_size * CHUNKS, rng)).to(device):
            step(data[batch].float(), pseudo_labels[batch], targets[batch])
        network.eval()
        _, predicted = forward_all(network, held_out_data, device)
        sentences = predicted.float().cpu().numpy().reshape(-1, CHUNKS).mean(axis=1) * std + mean
        torch.save(network.state_dict(), io.BytesIO())
        wait_for(device)
        return {"validation CCC": ccc(true_ratings[:, 0], sentences)}

    repeat()
    return Prepared(repeat)
