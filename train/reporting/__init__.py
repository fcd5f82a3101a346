"""What is measured of a finished training, in figures, in words and as a page."""
