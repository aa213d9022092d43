"""Statistics over evidence: association, fidelity and the evidence ladder. Arrays in, records out."""
