"""The `stagemesh` command: one module a verb."""
