-- +goose Up
-- create index "trace_created_at" to table: "traces"
CREATE INDEX `trace_created_at` ON `traces` (`created_at`) WHERE outcome = 'refused';

-- +goose Down
-- reverse: create index "trace_created_at" to table: "traces"
DROP INDEX `trace_created_at`;
