"""Policies: what they say, how they are read, and what they answer for one subject."""
