"""Calls of every public function with arguments grown from bytes, for a fuzzer and for tests/test_fuzz.py.

``PYTHONPATH=tests python -m fuzz --help`` says how it is run.
"""
