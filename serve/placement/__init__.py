"""Which request runs now, on which engine, and which adapters are loaded there for it."""
