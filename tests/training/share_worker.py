"""What each device holds and computes while the compiled programs run, as JSON; see test_devices.py.

Those over splits are compiled for a set of recordings so large that what all devices hold alike (a batch, centroids) is
little beside it. It exists as shapes alone.
"""

from __future__ import annotations

import json

import jax
import lowering_worker as shapes

from emocluster_jax.config import ModelConfig

RECORDINGS = 2**17

if __name__ == "__main__":
    shapes.UTTERANCES = RECORDINGS // jax.device_count()
    shapes.CHUNKS = shapes.UTTERANCES * shapes.FEATURES.chunks_per_utterance
    config = ModelConfig(attributes=("arousal", "valence"), clusters=5, width_multiplier=0.125)
    networks, over_splits = shapes.training(config) | shapes.embedding(config), shapes.of_splits()
    programs = networks | over_splits | shapes.clustering("random")
    shares = {}
    for name in ("stage II, float32", "embedding, emocluster float32", *over_splits, "K-means, random"):
        function, arguments = programs[name]
        compiled = function.lower(*arguments).compile()
        stats = compiled.memory_analysis()
        shares[name] = {
            "arguments": stats.argument_size_in_bytes,
            "outputs": stats.output_size_in_bytes - stats.alias_size_in_bytes,
            "temporaries": stats.temp_size_in_bytes,
            # Of one round of each loop: of two chunks a device in training, of a block in embedding and K-means.
            "operations": compiled.cost_analysis()["flops"],
        }
    print(json.dumps(shares))
