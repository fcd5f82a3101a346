"""All that comes before the first step: settings, memory and time. Writes nothing."""
