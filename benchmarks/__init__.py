"""Claims of speed, memory and quality, each measured beside its baseline."""
