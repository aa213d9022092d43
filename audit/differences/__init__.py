"""What changed between two audits: from two sealed bundles, by their evidence alone. Needs no model."""
