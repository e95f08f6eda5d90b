-- Which folders of start lists are kept, and whether they can be written.

CREATE TABLE start_list_folders (
    folder text PRIMARY KEY,
    machine text NOT NULL,
    kept_at timestamptz NOT NULL,
    failing_since timestamptz,
    last_error text
);
COMMENT ON TABLE start_list_folders IS 'One row: a folder that a process keeps files of start lists in.';
COMMENT ON COLUMN start_list_folders.folder IS 'Its path.';
COMMENT ON COLUMN start_list_folders.machine IS 'Host and process id of the process that keeps it.';
COMMENT ON COLUMN start_list_folders.kept_at IS 'When that process last compared the files with the lists, by the database''s clock.';
COMMENT ON COLUMN start_list_folders.failing_since IS 'Since when a file or the folder cannot be written; NULL: all of them are current.';
COMMENT ON COLUMN start_list_folders.last_error IS 'Why not.';
