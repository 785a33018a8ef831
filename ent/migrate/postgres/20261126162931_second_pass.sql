-- +goose Up
-- modify "cursors" table
ALTER TABLE "cursors" ADD COLUMN "rechecked" bigint NOT NULL DEFAULT 0, ADD COLUMN "rechecked_unix" bigint NOT NULL DEFAULT 0;

-- +goose Down
-- reverse: modify "cursors" table
ALTER TABLE "cursors" DROP COLUMN "rechecked_unix", DROP COLUMN "rechecked";
