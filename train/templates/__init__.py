"""A base's own chat template: rows as the tokens that it is served with, and which are learned."""
