"""The benchmark: aioxide beside asyncio, uvloop and others, in one run. ``bench/NOTES.md`` says how it measures."""
