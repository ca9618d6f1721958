"""Frames that openSMILE and encoders make: whole, in parts, and of recordings that are not held; what is refused."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emocluster_jax.config import FeatureConfig, FrontEndFeatures, GivenFeatures, features_from_dict, front_end_named
from emocluster_jax.errors import InputError, RecordingError
from emocluster_jax.preprocessing import front_ends, sources
from emocluster_jax.preprocessing.audio import Condition
from emocluster_jax.preprocessing.chunks import chunk_parts, chunk_spans, frames_of_parts, split_chunks
from emocluster_jax.preprocessing.front_ends import all_frames, library, loaded, parts_of
from emocluster_jax.preprocessing.quality import quality_of
from small_encoders import Kind, save_encoder
from small_models import noise, write_recording

RATE_HZ = 16_000


@pytest.fixture(scope="module", params=["opensmile:eGeMAPSv02", "opensmile:ComParE_2016", "wav2vec2", "wavlm"])
def features(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FrontEndFeatures:
    name, _, feature_set = request.param.partition(":")
    if name == "opensmile":
        opensmile_is_there()
        return library("opensmile").settings(feature_set, None)
    return library("transformers").settings(str(save_encoder(tmp_path_factory.mktemp(name), name)), 1)


def opensmile_is_there() -> None:
    pytest.importorskip("opensmile", reason='opensmile is not installed; pip install "emocluster_jax[opensmile]"')


def signal(seconds: float) -> np.ndarray:
    made = noise(seconds)
    return made / np.abs(made).max()


def test_a_recording_has_the_same_frames_alone_beside_others_and_in_parts(
    features: FrontEndFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = (1.0, 2.5, 1.0, 45.3)
    alone = [all_frames(signal(seconds), features) for seconds in lengths]
    assert [len(frames) for frames in alone] == [
        (len(signal(s)) - features.window_size) // features.hop_size + 1 for s in lengths
    ]
    with ThreadPoolExecutor(4) as pool:
        beside = list(pool.map(lambda seconds: all_frames(signal(seconds), features), reversed(lengths)))
    for one, other in zip(alone, reversed(beside), strict=True):
        np.testing.assert_array_equal(one, other)

    path = write_recording(tmp_path / "long.wav", noise(45.3))
    held = sources.open_source(path, features)
    monkeypatch.setattr(sources, "HELD_S", 2.0)
    for source in (held, sources.open_source(path, features)):
        parts = chunk_parts(sources.reader(source), 0, len(source), features)
        chunks = split_chunks(frames_of_parts(parts, features), features.chunk_frames, 11)
        np.testing.assert_array_equal(chunks, split_chunks(alone[-1], features.chunk_frames, 11))
        assert quality_of(parts, features, Condition()).silent_chunks == 0
    assert isinstance(sources.open_source(path, features), sources.LongRecording)


def test_parts_make_all_frames_and_see_their_surroundings() -> None:
    features = FrontEndFeatures("transformers", "x", 4, 320, 400, "none")
    for samples in (30 * RATE_HZ + 1, 60 * RATE_HZ, 20 * RATE_HZ * 5 + 80):
        parts = parts_of(samples, features)
        assert [part.first for part in parts] == list(range(0, parts[-1].last, 1_000))
        assert parts[-1].last == (samples - 400) // 320 + 1 and parts[-1].end == samples
        assert all(one.last == other.first for one, other in itertools.pairwise(parts))
        assert all(part.start == max(part.first - 250, 0) * 320 for part in parts)
    (only,) = parts_of(30 * RATE_HZ, features)
    assert only == (0, 1_499, 0, 30 * RATE_HZ)


def test_chunks_only_cost_the_parts_that_they_lie_in() -> None:
    features = FrontEndFeatures("transformers", "x", 4, 320, 400, "none")
    time = np.arange(600 * RATE_HZ, dtype=np.float32)  # each sample says where it is
    parts = chunk_parts(lambda start, end: time[start:end], 0, len(time), features)
    assert len(parts.parts) < len(parts_of(len(time), features))
    step = ((len(time) - 400) // 320 + 1 - 50) // 10
    for i, span in enumerate(chunk_spans(parts, features)):
        assert (span[0], len(span)) == (i * step * 320, 49 * 320 + 400)


def test_opensmile_gives_its_own_frames() -> None:
    opensmile_is_there()
    import opensmile

    features = library("opensmile").settings("eGeMAPSv02", None)
    assert (features.chunk_frames, features.dimensions, features.frames_per_second) == (100, 25, 100)
    its = opensmile.Smile(feature_set="eGeMAPSv02", feature_level="lld")
    made = noise(2)  # quieter than 1
    np.testing.assert_array_equal(all_frames(made, features), its(made * 32767 / 32768, RATE_HZ)[0].T)
    # openSMILE would make -1 of a sample of 1.
    loud = np.sin(np.arange(RATE_HZ, dtype=np.float32) * np.pi / 16)
    quiet, loudness = all_frames(0.999 * loud, features), all_frames(loud, features)
    np.testing.assert_allclose(loudness[:, 0], quiet[:, 0], rtol=1e-2)
    for samples, reason in ((799, r"0\.05 s"), (959, r"0\.06 s")):
        with pytest.raises(RecordingError, match=f"shorter than {reason}"):
            all_frames(made[:samples], features)


def test_opensmile_of_another_version_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    opensmile_is_there()
    module = library("opensmile")
    features = dataclasses.replace(module.settings("ComParE_2016", None), checksum="ComParE_2016 of opensmile 1.0.0")
    with pytest.raises(InputError, match=r"made by opensmile 1\.0\.0, and .* pip install opensmile==1\.0\.0"):
        loaded(features)

    def absent(name: str) -> str:
        raise module.PackageNotFoundError

    monkeypatch.setattr(module, "version", absent)
    with pytest.raises(InputError, match=r"not installed: pip install \"emocluster_jax\[opensmile\]\" \(for research"):
        module.settings("eGeMAPSv02", None)


@pytest.mark.parametrize("kind", ["wav2vec2", "wavlm"])
def test_an_encoders_layers_are_transformers_own(kind: Kind, tmp_path: Path) -> None:
    folder = str(save_encoder(tmp_path, kind))
    import torch
    from transformers import AutoFeatureExtractor, AutoModel

    short = signal(1.5)
    values = AutoFeatureExtractor.from_pretrained(folder)(short, sampling_rate=RATE_HZ, return_tensors="pt")
    with torch.no_grad():
        expected: Any = AutoModel.from_pretrained(folder).eval()(values.input_values, output_hidden_states=True)
    for layer in (0, 1, 2, None):
        features = library("transformers").settings(folder, layer)
        states = expected.last_hidden_state if layer in (2, None) else expected.hidden_states[layer]
        np.testing.assert_array_equal(all_frames(short, features), states[0].numpy())
        assert (features.chunk_frames, features.dimensions, features.frames_per_second) == (50, 16, 50)
    quieter = all_frames(0.5 * short, features)
    assert np.allclose(quieter, all_frames(short, features), atol=1e-4) == (kind == "wavlm")


def test_encoders_that_are_changed_gone_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, module = save_encoder(tmp_path / "wavlm"), library("transformers")
    features = module.settings(str(folder), None)
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    assert module.settings(str(moved), None) == features and module.settings(str(folder), 1) != features
    with pytest.raises(InputError, match="has the layers 0 to 2; layer 3 is not one of them"):
        module.settings(str(folder), 3)

    (moved / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"has no preprocessor_config\.json; give a folder"):
        module.settings(str(moved), None)
    save_encoder(folder, seed=1)
    with pytest.raises(InputError, match=r"holds another encoder .* expected [0-9a-f]{64}\); restore it"):
        module.load(features)
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(InputError, match="does not load as a speech encoder"):
        module.settings(str(folder), None)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="has no weights in safetensors"):
        module.settings(str(folder), None)
    shutil.rmtree(folder)
    with pytest.raises(InputError, match=r"is gone: .* is not a folder; put a copy of it there"):
        module.load(features)

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"^nobody/none is not a folder, and cannot be fetched .* or give a folder"):
        module.settings("nobody/none", None)
    for name in (str(folder), "x" * 5_000 + "/a/b"):
        with pytest.raises(InputError, match="neither a folder nor a name on the Hugging Face Hub"):
            module.settings(name, None)
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"not installed: pip install \"emocluster_jax\[transformers\]\""):
        module.load(features)


def test_an_encoder_of_the_hub_is_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, commit = tmp_path / "models--some--wavlm", 40 * "a"
    save_encoder(cache / "snapshots" / commit)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    features = library("transformers").settings("some/wavlm", 1)
    assert (features.name, features.revision, features.layer) == ("some/wavlm", commit, 1)
    (cache / "refs" / "main").write_text(40 * "b")  # a newer one, which is not fetched
    assert library("transformers").load(features)(signal(1)).shape == (49, 16)


def test_what_features_may_say() -> None:
    assert front_end_named("mel") is None
    assert front_end_named("opensmile:ComParE_2016") == ("opensmile", "ComParE_2016", None)
    assert front_end_named("transformers:microsoft/wavlm-base@9") == ("transformers", "microsoft/wavlm-base", 9)
    assert front_end_named("transformers:a@b/c") == ("transformers", "a@b/c", None)
    for wrong in ("mfcc", "opensmile", "opensmile:GeMAPS", "transformers:", "transformers"):
        with pytest.raises(InputError, match=r"`features` is .*; expected mel, opensmile:eGeMAPSv02"):
            front_end_named(wrong)


def test_settings_go_to_json_and_back() -> None:
    for features in (
        FeatureConfig(),
        GivenFeatures(24, 50),
        FrontEndFeatures("transformers", "x", 768, 320, 400, "sum", layer=9, revision="main"),
    ):
        again = features_from_dict(dataclasses.asdict(features), "here")
        assert again == features and dataclasses.asdict(again) == dataclasses.asdict(features)
    with pytest.raises(InputError, match="here: library is 'librosa'; expected one of opensmile, transformers"):
        features_from_dict(dataclasses.asdict(features) | {"library": "librosa"}, "here")
    assert front_ends.PART_S + 2 * front_ends.CONTEXT_S <= front_ends.WHOLE_S
