"""The command line: verbs only, each of which calls one public function."""
