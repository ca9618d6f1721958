"""What a person does with a corpus, a file a step: prepare, fit, evaluate, calibrate, predict, look at the clusters.

The commands call the same functions; `import emocluster_jax` offers them by their names.
"""
