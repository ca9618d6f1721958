"""The commands, a module each."""

COMMANDS = {
    "prepare": "recordings and labels become records, ready for training",
    "train": "train a model on prepared records; without arguments, the demo",
    "evaluate": "score a model on a prepared split",
    "calibrate": "bring a model's predictions to the scale of your labels",
    "predict": "recordings become a table of predicted attributes",
    "report": "one HTML page on a run or an experiment",
    "experiment": "the paper's tables and figures, from grids of runs",
    "export": "a model as StableHLO, ONNX and safetensors, with its card",
    "import_torch": "one of the published PyTorch models becomes a model directory",
    "benchmark": "how fast this project is here, beside its peers",
}
