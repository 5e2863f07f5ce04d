"""Transports: what a client hands a request to, and gets a response from.

The native core is one of them, plugged in unless another is given.
"""

from __future__ import annotations
