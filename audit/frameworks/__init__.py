"""Which findings and parts of a report may be cited under which clause of which framework, and under which not."""
