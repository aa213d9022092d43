"""What the model uses: interventions on confirmed features and on pairs of them, within a budget."""

from audit.causes.inquiry import Causes, find_causes, record_causes

__all__ = ["Causes", "find_causes", "record_causes"]
