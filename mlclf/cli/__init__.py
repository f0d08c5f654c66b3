"""The command line: ``mlclf train | evaluate | predict | ...``. It translates; the Python API does the work."""
