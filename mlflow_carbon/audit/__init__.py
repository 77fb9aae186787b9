"""Evidence against policy: every rule on every subject, exactly."""
