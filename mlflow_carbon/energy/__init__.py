"""Joules of a process, a host, a device: reading them, sharing them out, and saying how sure we are."""
