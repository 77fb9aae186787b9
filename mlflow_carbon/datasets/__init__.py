"""What a run was trained on: content, size, license, origin, and roles."""
