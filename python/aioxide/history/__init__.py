"""The history of async as running programs: `aioxide history`.

Every way of writing asynchronous code, from blocking calls to Rust futures, is one small program in `chapters/`
(`examples/history/` in the project's tree). The command runs them against an HTTP server, measures each, and draws
what ran when on one time axis. The pieces, in the order in which a run goes through them:

- `_chapters` finds the programs, `_target` starts the server or reads the URL;
- `_measure` runs one program, with `_lines` taking what it prints;
- `_report` says what came of it, in words and as JSON;
- `_panes` arranges a recording for drawing, `_svg` and `_page` draw it.
"""
