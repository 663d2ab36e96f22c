"""What is over is deleted after a time; what still counts stays, however old it is."""
