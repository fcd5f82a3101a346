"""Files and rows: what is read, written, converted and split. Judges no row; knows no tokens."""
