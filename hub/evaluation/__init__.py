"""Is the tuned model better? Metrics, paired statistics and the gate."""
