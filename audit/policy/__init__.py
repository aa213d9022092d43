"""What an organisation asks of an audit before a model may be released: policies, their rules, and the gate's answer.

A rule passes, fails or is unresolved, and `unresolved` is never a pass. Policies read sealed records only: no model.
"""
