//! HTTP/1.1: client and a small server.
