"""A supervised epoch in PyTorch: embed, cluster, draw balanced batches, take the steps, validate, save."""

from __future__ import annotations

import io

import numpy as np
import torch
from torch import nn

from emocluster_jax.benchmark.cases import Prepared
from emocluster_jax.benchmark.made_data import labelled_recordings
from emocluster_jax.benchmark.peers.kmeans_libraries import faiss_clusters
from emocluster_jax.benchmark.peers.torch_network import make_network, wait_for
from emocluster_jax.benchmark.peers.torch_training import forward_all, training_step
from emocluster_jax.clustering.sampling import balanced_indices
from emocluster_jax.evaluation.metrics import ccc

CLUSTERS = 10
ITERATIONS = 20


def epochs(train: int, validation: int, batch_size: int, width_multiplier: float, device: str) -> Prepared:
    """One epoch per repetition; the network goes on learning from each to the next."""
    network = make_network(width_multiplier, device)
    arrays, ratings = labelled_recordings(train, seed=0)
    held_out, true_ratings = labelled_recordings(validation, seed=1)
    chunks_per_recording = arrays.shape[1]
    data = torch.from_numpy(arrays.reshape(-1, *arrays.shape[2:])).to(device)
    held_out_data = torch.from_numpy(held_out.reshape(-1, *held_out.shape[2:])).to(device)
    mean, std = ratings[:, 0].mean(), ratings[:, 0].std()
    labels = np.repeat((ratings[:, :1] - mean) / std, chunks_per_recording, axis=0)
    targets = torch.from_numpy(labels).to(device)
    rng = np.random.default_rng(0)
    step = training_step(network, device, network)

    def repeat() -> dict[str, float]:
        network.eval()
        embeddings, _ = forward_all(network, data, device)
        points = embeddings.float().cpu().numpy()
        _, assignments = faiss_clusters(points, CLUSTERS, ITERATIONS, seed=int(rng.integers(2**31)))
        nn.init.normal_(network.cluster_head.weight, 0, 0.01)
        nn.init.zeros_(network.cluster_head.bias)
        pseudo_labels = torch.from_numpy(assignments).to(device)
        network.train()
        for batch in torch.from_numpy(balanced_indices(assignments, batch_size * chunks_per_recording, rng)).to(device):
            step(data[batch].float(), pseudo_labels[batch], targets[batch])
        network.eval()
        _, predicted = forward_all(network, held_out_data, device)
        sentences = predicted.float().cpu().numpy().reshape(-1, chunks_per_recording).mean(axis=1) * std + mean
        torch.save(network.state_dict(), io.BytesIO())
        wait_for(device)
        return {"validation CCC": ccc(true_ratings[:, 0], sentences)}

    repeat()
    return Prepared(repeat)
