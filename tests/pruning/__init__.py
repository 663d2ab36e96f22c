"""What is over goes after its time, what still counts stays."""
