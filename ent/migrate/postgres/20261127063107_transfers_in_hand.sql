-- +goose Up
-- drop index "operation_agent_id_kind" from table: "operations"
DROP INDEX "operation_agent_id_kind";
-- modify "operations" table
ALTER TABLE "operations" ADD COLUMN "holder" uuid NULL, ADD COLUMN "held_until_unix" bigint NULL;
-- create index "operation_agent_id_kind_created_at" to table: "operations"
CREATE INDEX "operation_agent_id_kind_created_at" ON "operations" ("agent_id", "kind", "created_at");

-- +goose Down
-- reverse: create index "operation_agent_id_kind_created_at" to table: "operations"
DROP INDEX "operation_agent_id_kind_created_at";
-- reverse: modify "operations" table
ALTER TABLE "operations" DROP COLUMN "held_until_unix", DROP COLUMN "holder";
-- reverse: drop index "operation_agent_id_kind" from table: "operations"
CREATE INDEX "operation_agent_id_kind" ON "operations" ("agent_id", "kind");
