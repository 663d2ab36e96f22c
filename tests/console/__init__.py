"""The console: pages for people at the vendor."""
