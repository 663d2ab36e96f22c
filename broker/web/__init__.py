"""The edge: parse, authenticate, call one domain function, render.  No rules."""
