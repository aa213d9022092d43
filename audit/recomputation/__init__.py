"""The findings of a bundle again, from its evidence alone, and where they differ from what was recorded."""
