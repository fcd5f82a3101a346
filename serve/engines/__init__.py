"""Engines: the only part of Loom that knows vLLM, over HTTP and its command line alone."""
