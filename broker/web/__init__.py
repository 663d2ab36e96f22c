"""The edge: parse, authenticate, call one domain function, render.  It has no rules."""
