-- +goose Up
-- disable the enforcement of foreign-keys constraints
PRAGMA foreign_keys = off;
-- create "new_cursors" table
CREATE TABLE `new_cursors` (`id` integer NOT NULL PRIMARY KEY AUTOINCREMENT, `block` integer NOT NULL, `hash` text NOT NULL, `time_unix` integer NOT NULL, `rechecked` integer NOT NULL DEFAULT (0), `rechecked_unix` integer NOT NULL DEFAULT (0));
-- copy rows from old table "cursors" to new temporary table "new_cursors"
INSERT INTO `new_cursors` (`id`, `block`, `hash`, `time_unix`) SELECT `id`, `block`, `hash`, `time_unix` FROM `cursors`;
-- drop "cursors" table after copying rows
DROP TABLE `cursors`;
-- rename temporary table "new_cursors" to "cursors"
ALTER TABLE `new_cursors` RENAME TO `cursors`;
-- enable back the enforcement of foreign-keys constraints
PRAGMA foreign_keys = on;

-- +goose Down
-- reverse: create "new_cursors" table
DROP TABLE `new_cursors`;
