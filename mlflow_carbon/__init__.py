"""Energy, carbon and data provenance of MLflow runs, policy audits, and a promotion gate.

Importing this package loads the standard library only; each public name loads
its module on first use.
"""

__version__ = "0.1.0"
