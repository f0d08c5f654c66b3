"""The command line: ``mlclf train | evaluate | predict | plugins``. It translates; the Python API does the work."""
