"""What becomes of a request's body on its way to an engine, and of the answer on its way back."""
