"""Holds the report's templates, styles and fonts as package data; nothing here is executed."""
