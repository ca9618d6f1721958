"""What `launch.benchmark` measures: this project beside its peers, in the same run, on random data."""
