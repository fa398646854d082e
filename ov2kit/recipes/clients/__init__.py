"""What other programs load to serve, to evaluate and to train our models: vLLM, lmms-eval, lmms-engine."""
