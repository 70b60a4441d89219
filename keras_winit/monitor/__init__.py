"""What watches training: taps, statistics by layer and step, writers."""
