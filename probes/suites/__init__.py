"""The suites that ship with the package, one folder a domain, one file a concept."""
