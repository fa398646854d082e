"""What other programs load to serve and to evaluate our models: vLLM's plugin, lmms-eval's model."""
