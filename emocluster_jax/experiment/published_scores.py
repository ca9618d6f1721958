"""Published test CCC on MSP-Podcast v1.6 (Lin, Sridhar & Busso, ICASSP 2021, tables 1 and 2)."""

from __future__ import annotations

from emocluster_jax.experiment.grid import PUBLISHED_SIZES, Setting

CORPUS = "MSP-Podcast v1.6 (Lin, Sridhar & Busso, ICASSP 2021)"


def _vad(arousal: float, dominance: float, valence: float) -> dict[str, float]:
    return {"arousal": arousal, "dominance": dominance, "valence": valence}


_CCC: dict[Setting, dict[str, float]] = {
    Setting("cnn_regressor", None, 0): _vad(0.6177, 0.4928, 0.1696),
    Setting("cnn_ae", None, 0): _vad(0.6338, 0.5111, 0.1354),
    Setting("cnn_vae", None, 0): _vad(0.5586, 0.4800, 0.1826),
    Setting("emocluster", 10, 0): _vad(0.6502, 0.5426, 0.1510),
    Setting("emocluster", 10, PUBLISHED_SIZES[-1]): _vad(0.6611, 0.5400, 0.1572),
    Setting("emocluster", 20, PUBLISHED_SIZES[-1]): _vad(0.6491, 0.5459, 0.1756),
    Setting("emocluster", 30, PUBLISHED_SIZES[-1]): _vad(0.6416, 0.5490, 0.1752),
}


def published_ccc(setting: Setting, attribute: str) -> float | None:
    """What the paper gives for this setting and attribute; None where it gives nothing."""
    return _CCC.get(setting, {}).get(attribute)
