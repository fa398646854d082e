"""What `benchmarks.finetuning` measures: models of random weights, one row, and the memory that it should take."""
