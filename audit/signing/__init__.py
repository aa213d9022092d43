"""Seal evidence bundles and verify them, seeing bytes and files only.

`keys` makes and loads sealing keys, `pdf` signs the report, `seal` signs the bundle, `verify` checks all of it. Import
the module that you need: each one is light, and pyHanko is loaded only where a PDF is signed or checked.
"""
