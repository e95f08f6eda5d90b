-- Two machines may keep folders of the same path: each process has a row of its own.

ALTER TABLE start_list_folders DROP CONSTRAINT start_list_folders_pkey;
ALTER TABLE start_list_folders ADD PRIMARY KEY (folder, machine);
