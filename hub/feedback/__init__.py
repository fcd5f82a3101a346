"""What was asked and answered, and what people said of it: the log and its export."""
