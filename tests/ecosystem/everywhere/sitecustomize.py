"""Python imports this at its start if this folder is in PYTHONPATH: our loop for programs that cannot be told."""

import asyncio
import warnings

import aioxide

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # policies go, from Python 3.14 on
    asyncio.set_event_loop_policy(aioxide.EventLoopPolicy())
