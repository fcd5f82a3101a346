"""TRL's trainers, a method each, and what they share. Nothing here writes the registry."""
