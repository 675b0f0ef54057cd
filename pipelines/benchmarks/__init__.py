"""One protocol per paper; `python -m pipelines.benchmarks` lists them."""
