"""The parts of `aioxide.httpclient`: errors, messages, and the rules by which Tornado's client sends and redirects."""
