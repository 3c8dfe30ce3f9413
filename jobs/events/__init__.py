"""What is learnt about an input file before any event is read."""
