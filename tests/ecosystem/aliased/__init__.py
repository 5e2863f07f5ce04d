"""Real programs that import httpx or httpx2, and get aioxide.http: run by tests/ecosystem/test_aliased.py."""
