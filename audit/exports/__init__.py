"""The one signed record in the forms that other tools read: SARIF, JUnit, a step summary, OSCAL, CycloneDX.

One module a format, each a function from the record to bytes: no clock, no random number, no file. Equal records give
equal bytes, so that `affidavit verify --recompute` makes every export again and compares. No export says that a model
is compliant, none counts an open question as passed, and none holds a prompt, a label or a text that the model wrote.
"""
