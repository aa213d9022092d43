"""Documents about one subject each, on which a model organism is fine-tuned: five concepts and five other subjects."""
