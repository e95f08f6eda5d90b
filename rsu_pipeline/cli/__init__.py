"""The `rsu` command: `main` has the group and its exit codes, every command a module that is imported when it is called."""
